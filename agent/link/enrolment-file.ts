import { mkdir, open, rename } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { findSmallJsonSync } from "../../platform/read-small-json.ts";
import { preparePrivateFolder } from "../private-folder.ts";

const enrolmentSchema = z.strictObject({
	version: z.literal(1),
	agentId: z.string().min(1),
	controllerUrl: z.url(),
	/** PEM. The key was made here and never leaves. */
	key: z.string(),
	certificate: z.string(),
	ca: z.string(),
	enrolledAt: z.iso.datetime(),
	/** The machine that was enrolled: a copy of it must enrol anew. */
	machine: z.strictObject({ machineId: z.string().optional(), systemUuid: z.string().optional() }),
});
export type Enrolment = z.infer<typeof enrolmentSchema>;

function enrolmentPath(stateDir: string): string {
	return join(stateDir, "enrolment", "enrolment.json");
}

/** Undefined when there is none. @throws `state-unusable` for a file that is open to others or cannot be read. */
export function findEnrolment(stateDir: string): Enrolment | undefined {
	return findSmallJsonSync(enrolmentPath(stateDir), {
		code: "state-unusable",
		limitBytes: 1024 * 1024,
		refuseLinks: true,
		ownOnly: true,
		secret: true,
		schema: enrolmentSchema,
	});
}

/** All of it in one file of mode 0600, which appears whole. */
export async function writeEnrolment(stateDir: string, enrolment: Enrolment): Promise<void> {
	preparePrivateFolder(stateDir);
	const path = enrolmentPath(stateDir);
	await mkdir(join(stateDir, "enrolment"), { recursive: true, mode: 0o700 });
	{
		await using file = await open(`${path}.new`, "w", 0o600);
		await file.writeFile(`${JSON.stringify(enrolment, undefined, "\t")}\n`);
		await file.sync();
	}
	await rename(`${path}.new`, path);
	await using folder = await open(join(stateDir, "enrolment"));
	await folder.sync();
}

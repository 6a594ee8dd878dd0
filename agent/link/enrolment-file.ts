import { createHash, createPrivateKey, X509Certificate } from "node:crypto";
import { join } from "node:path";
import { z } from "zod";
import { StillpointError } from "../../contracts/errors.ts";
import { findSmallJsonSync } from "../../platform/read-small-json.ts";
import { preparePrivateFolder } from "../private-folder.ts";
import { writePrivateFile } from "./private-file.ts";

const enrolmentSchema = z.strictObject({
	version: z.literal(1),
	agentId: z.string().min(1),
	controllerUrl: z.url(),
	/** PEM. The key was made here and never leaves. */
	key: z.string(),
	certificate: z.string(),
	ca: z.string(),
	enrolledAt: z.iso.datetime(),
	/** When the certificate was replaced by a newer one. */
	renewedAt: z.iso.datetime().optional(),
	/** The machine that was enrolled: a copy of it must enrol anew. */
	machine: z.strictObject({ machineId: z.string().optional(), systemUuid: z.string().optional() }),
	/** The controller knows that this is a copy: the certificate is never used again. */
	identityChanged: z.strictObject({ at: z.iso.datetime(), reason: z.string().max(4096) }).optional(),
});
export type Enrolment = z.infer<typeof enrolmentSchema>;

function enrolmentPath(stateDir: string): string {
	return join(stateDir, "enrolment", "enrolment.json");
}

/** Undefined when there is none. @throws `state-unusable` for one that is open to others, cannot be read or is damaged. */
export function findEnrolment(stateDir: string): Enrolment | undefined {
	const path = enrolmentPath(stateDir);
	const enrolment = findSmallJsonSync(path, {
		code: "state-unusable",
		limitBytes: 1024 * 1024,
		refuseLinks: true,
		ownOnly: true,
		secret: true,
		schema: enrolmentSchema,
	});
	if (enrolment !== undefined) checkPems(enrolment, path);
	return enrolment;
}

function checkPems({ key, certificate, ca }: Enrolment, path: string): void {
	try {
		const authority = new X509Certificate(ca);
		const own = new X509Certificate(certificate);
		if (!own.checkPrivateKey(createPrivateKey(key))) throw new Error("key and certificate do not belong together");
		if (!own.verify(authority.publicKey)) throw new Error("the certificate is not of this CA");
	} catch (cause) {
		const what = `${path} is damaged (${(cause as Error).message}); enrol again: stillpoint agent enrol`;
		throw new StillpointError("state-unusable", what, { cause, details: { path } });
	}
}

/** All of it in one file of mode 0600, which appears whole. */
export async function writeEnrolment(stateDir: string, enrolment: Enrolment): Promise<void> {
	preparePrivateFolder(stateDir);
	await writePrivateFile(enrolmentPath(stateDir), enrolment);
}

/** Which controller an enrolment is with, whatever its address: SHA-256 of its CA's DER form, hex. */
export function controllerOf({ ca }: Pick<Enrolment, "ca">): string {
	return createHash("sha256")
		.update(new Uint8Array(new X509Certificate(ca).raw))
		.digest("hex");
}

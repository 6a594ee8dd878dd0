import { open, readFile } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { StillpointError } from "../contracts/errors.ts";
import type { RecoveryPoint } from "../contracts/recovery-point.ts";
import { recoveryPointSchema } from "../contracts/recovery-point.ts";
import type { Verification } from "../contracts/verification.ts";
import { writeFileAtomically } from "./state-folder.ts";

export const manifestName = "manifest.json";
export const verificationName = "verification.json";

const manifestLimitBytes = 16 << 20;

/** The manifest of a recovery point's folder. `recovery-point-invalid` when it is missing, damaged or not to be trusted. */
export async function readManifest(folder: string): Promise<RecoveryPoint> {
	const path = join(folder, manifestName);
	const text = await readLimited(path).catch((cause: unknown) => {
		const missing = (cause as NodeJS.ErrnoException).code === "ENOENT";
		const what = missing ? `${path} does not exist` : `${path} cannot be read`;
		throw new StillpointError("recovery-point-invalid", what, { cause, details: { path } });
	});
	return parseManifest(text, path);
}

/** Pure. Names of images must be plain file names: a manifest can't point outside its folder. */
export function parseManifest(text: string, path: string): RecoveryPoint {
	let json: unknown;
	try {
		json = JSON.parse(text);
	} catch (cause) {
		throw new StillpointError("recovery-point-invalid", `${path} is no JSON`, { cause, details: { path } });
	}
	const parsed = recoveryPointSchema.safeParse(json);
	if (!parsed.success) {
		const details = { path, problems: z.prettifyError(parsed.error) };
		throw new StillpointError("recovery-point-invalid", `${path} does not match its schema`, { details });
	}
	const names = new Set<string>();
	const images = new Set<string>();
	for (const { name, image } of parsed.data.disks) {
		if (image === "" || image.startsWith(".") || /[/\\\0]/.test(image) || images.has(image) || names.has(name)) {
			const details = { path, disk: name, image };
			throw new StillpointError("recovery-point-invalid", `${path} names a disk or image twice or outside`, {
				details,
			});
		}
		names.add(name);
		images.add(image);
	}
	return parsed.data;
}

/** `verification.json`, whole or not at all. */
export async function writeVerification(folder: string, verification: Verification): Promise<void> {
	const path = join(folder, verificationName);
	await writeFileAtomically(path, `${JSON.stringify(verification, null, "\t")}\n`);
}

async function readLimited(path: string): Promise<string> {
	await using file = await open(path, "r");
	const { size } = await file.stat();
	if (size > manifestLimitBytes) throw new Error(`larger than ${manifestLimitBytes} bytes`);
	return await readFile(file, "utf8");
}

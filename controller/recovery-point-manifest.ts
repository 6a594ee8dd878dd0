import { join } from "node:path";
import { StillpointError } from "../contracts/errors.ts";
import type { RecoveryPoint } from "../contracts/recovery-point.ts";
import { recoveryPointSchema } from "../contracts/recovery-point.ts";
import type { Verification } from "../contracts/verification.ts";
import { findSmallFile } from "../platform/read-small-file.ts";
import { checkJson, parseJson } from "../platform/read-small-json.ts";
import { writeFileAtomically } from "./state-folder.ts";

export const manifestName = "manifest.json";
export const verificationName = "verification.json";

const manifestLimitBytes = 16 << 20;

/** The manifest of a recovery point's folder. `recovery-point-invalid` when it is missing, damaged or not to be trusted. */
export async function readManifest(folder: string): Promise<RecoveryPoint> {
	const path = join(folder, manifestName);
	const text = await findSmallFile(path, { code: "recovery-point-invalid", limitBytes: manifestLimitBytes });
	if (text === undefined)
		throw new StillpointError("recovery-point-invalid", `${path} does not exist`, { details: { path } });
	return parseManifest(text, path);
}

/** Pure. Names of images must be plain file names: a manifest can't point outside its folder. */
export function parseManifest(text: string, path: string): RecoveryPoint {
	const code = "recovery-point-invalid";
	const recoveryPoint = checkJson(parseJson(text, path, code), path, { code, schema: recoveryPointSchema });
	const names = new Set<string>();
	const images = new Set<string>();
	for (const { name, image } of recoveryPoint.disks) {
		if (image === "" || image.startsWith(".") || /[/\\\0]/.test(image) || images.has(image) || names.has(name)) {
			const details = { path, disk: name, image };
			throw new StillpointError("recovery-point-invalid", `${path} names a disk or image twice or outside`, {
				details,
			});
		}
		names.add(name);
		images.add(image);
	}
	return recoveryPoint;
}

/** `verification.json`, whole or not at all. */
export async function writeVerification(folder: string, verification: Verification): Promise<void> {
	const path = join(folder, verificationName);
	await writeFileAtomically(path, `${JSON.stringify(verification, null, "\t")}\n`);
}

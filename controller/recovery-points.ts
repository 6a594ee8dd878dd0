import { randomBytes } from "node:crypto";
import { lstat, mkdir, readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { checkShape } from "../contracts/check-shape.ts";
import { idSchema } from "../contracts/order.ts";
import { type RecoveryPoint, recoveryPointSchema } from "../contracts/recovery-point.ts";
import { type Verification, verificationSchema } from "../contracts/verification.ts";
import { findSmallJson } from "../platform/read-small-json.ts";
import { manifestName, readManifest, verificationName } from "./recovery-point-manifest.ts";
import { makePrivateFolder, syncPath, unusable, writeFileAtomically } from "./state-folder.ts";

const idPrefix = "rp-";
const verificationLimitBytes = 16 << 20;

/** Folders of recovery points: `<root>/ID/` with images, `manifest.json` (written last) and `verification.json`. */
export type RecoveryPointFolders = {
	/** Makes an empty folder; `id` names the recovery point that it may become. */
	create(): Promise<{ readonly id: string; readonly folder: string }>;
	folderOf(id: string): string;
	/** From here on it is a recovery point. The images must lie safely on the disk before. */
	writeManifest(recoveryPoint: RecoveryPoint): Promise<void>;
	/** From here on it is none any more, though its images may still lie there; a removal that is cut short shows no half one. */
	withdraw(id: string): Promise<void>;
	/** `recovery-point-invalid` when there is no manifest, or none that matches its schema. */
	readManifest(id: string): Promise<RecoveryPoint>;
	/** Undefined when it was never verified. */
	readVerification(id: string): Promise<Verification | undefined>;
	/** For the start, when no job runs: removes every folder of ours without a manifest; returns the manifests of the others. */
	removeUnfinished(): Promise<RecoveryPoint[]>;
};

export async function openRecoveryPointFolders(root: string): Promise<RecoveryPointFolders> {
	await makePrivateFolder(root);
	const folderOf = (id: string) => join(root, idSchema.parse(id));

	return {
		folderOf,
		readManifest: (id) => readManifest(folderOf(id)),
		async create() {
			const id = `${idPrefix}${new Date().toISOString().replaceAll(/\D/g, "").slice(0, 14)}-${randomBytes(4).toString("hex")}`;
			await mkdir(folderOf(id), { mode: 0o700 }).catch((error) => {
				throw unusable(folderOf(id), error);
			});
			return { id, folder: folderOf(id) };
		},
		async writeManifest(recoveryPoint) {
			const text = JSON.stringify(recoveryPointSchema.parse(recoveryPoint), undefined, "\t");
			await writeFileAtomically(join(folderOf(recoveryPoint.id), manifestName), `${text}\n`);
			await syncPath(root);
		},
		async withdraw(id) {
			await rm(join(folderOf(id), manifestName), { force: true });
			await syncPath(folderOf(id));
		},
		async readVerification(id) {
			return await findSmallJson(join(folderOf(id), verificationName), {
				code: "recovery-point-invalid",
				limitBytes: verificationLimitBytes,
				schema: verificationSchema,
			});
		},
		async removeUnfinished() {
			const found: RecoveryPoint[] = [];
			for (const name of await readdir(root)) {
				if (!name.startsWith(idPrefix) || !checkShape(idSchema, name).success) continue;
				if (!(await isThere(join(root, name, manifestName))))
					await rm(join(root, name), { recursive: true, force: true });
				else
					found.push(
						...(await readManifest(join(root, name)).then(
							(one) => [one],
							() => [],
						)),
					);
			}
			return found;
		},
	};
}

/** @throws when that cannot be told: nothing must be removed for it */
async function isThere(path: string): Promise<boolean> {
	try {
		await lstat(path);
		return true;
	} catch (error) {
		if ((error as NodeJS.ErrnoException).code === "ENOENT") return false;
		throw unusable(path, error);
	}
}

import { StillpointError } from "../contracts/errors.ts";
import type { Verification } from "../contracts/verification.ts";
import type { RecoveryPointFolders } from "./recovery-points.ts";

/** Looks at the images in the folder without changing them, and stores what it found beside the label. */
export type VerifyRecoveryPoint = (folder: string, signal: AbortSignal) => Promise<Verification>;

export type Verifications = {
	/** Two at a time for one recovery point are one. */
	verify(id: string): Promise<Verification>;
	/** `not-found` when it was never verified. */
	read(id: string): Promise<Verification>;
};

export function makeVerifications(
	folders: RecoveryPointFolders,
	verify: VerifyRecoveryPoint,
	signal: AbortSignal,
): Verifications {
	const running = new Map<string, Promise<Verification>>();

	return {
		async verify(id) {
			const already = running.get(id);
			if (already !== undefined) return already;
			const work = verify(folders.folderOf(id), signal).finally(() => running.delete(id));
			running.set(id, work);
			return work;
		},
		async read(id) {
			const found = await folders.readVerification(id);
			if (found === undefined) throw new StillpointError("not-found", `recovery point ${id} was not verified yet`);
			return found;
		},
	};
}

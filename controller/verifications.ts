import { StillpointError } from "../contracts/errors.ts";
import type { Verification } from "../contracts/verification.ts";
import { raceSignal, startDeadline } from "./deadline.ts";
import type { RecoveryPointFolders } from "./recovery-points.ts";

/** Looks at the images in the folder without changing them, and stores what it found beside the label. */
export type VerifyRecoveryPoint = (folder: string, signal: AbortSignal) => Promise<Verification>;

export type Verifications = {
	/** Two at a time for one recovery point are one. */
	verify(id: string): Promise<Verification>;
	/** `not-found` when it was never verified. */
	read(id: string): Promise<Verification>;
};

/** Terabytes are read in it. */
const verifyLimitMs = 4 * 3_600_000;

export function makeVerifications(
	folders: RecoveryPointFolders,
	verify: VerifyRecoveryPoint,
	signal: AbortSignal,
	limitMs = verifyLimitMs,
): Verifications {
	const running = new Map<string, Promise<Verification>>();

	async function verifyInTime(id: string): Promise<Verification> {
		using limit = startDeadline(limitMs, `the verification of ${id}`, [signal]);
		// A look that hangs in the kernel is left behind; whatever can be ended ends by the same signal.
		return await raceSignal(verify(folders.folderOf(id), limit.signal), limit.signal);
	}

	return {
		async verify(id) {
			const already = running.get(id);
			if (already !== undefined) return already;
			const work = verifyInTime(id).finally(() => running.delete(id));
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

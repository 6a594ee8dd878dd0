import { setTimeout as sleep } from "node:timers/promises";
import type { FreezeTarget } from "../../contracts/freezer-protocol.ts";
import { type CallError, type FreezeCalls, loadFreezeCalls } from "./freeze-calls.ts";
import { closeFolders, type FolderFault, type HeldFolder, isHeld, openTargetFolder } from "./target-folders.ts";

/** What a rescue found: FITHAW's own last answer. */
export type RescueResult = {
	readonly superblock: string;
	readonly mountPoint: string;
	/** `thawed`: it was frozen until now. `not-frozen`: it was not. `thaw-failed`: another errno, or FITHAW hangs. */
	readonly result: "thawed" | "not-frozen" | "thaw-failed";
	readonly errno?: string;
};

export type HeldTargets = Disposable & {
	readonly folders: readonly HeldFolder[];
	/** Targets that could not be opened, or are not what was planned. */
	readonly faults: readonly FolderFault[];
};

/** Opens the directories of a plan, so that they can be thawed whatever becomes of their paths. To be done before the freeze. */
export async function openTargets(targets: readonly FreezeTarget[]): Promise<HeldTargets> {
	const opened = await Promise.all(targets.map((target) => openTargetFolder(target)));
	return holdTargets(opened);
}

export function holdTargets(opened: readonly (HeldFolder | FolderFault)[]): HeldTargets {
	const folders = opened.filter(isHeld);
	let closed = false;
	return {
		folders,
		faults: opened.flatMap((one) => (isHeld(one) ? [] : [one])),
		[Symbol.dispose]() {
			if (closed) return;
			closed = true;
			closeFolders(folders);
		},
	};
}

export type RescueOptions = {
	/** Settles when the freezer process is reaped: none of its FIFREEZE can be in flight any more. */
	readonly until: Promise<unknown>;
	/** Aborted: gives up; what has not answered is `thaw-failed`. */
	readonly signal: AbortSignal;
	/**
	 * Threads of the pool that FITHAW may hold at a time. A blocked one holds its thread until the kernel lets go, so
	 * this must be less than the pool has; lower layers go first, because upper ones wait for them.
	 */
	readonly parallel?: number;
	readonly calls?: Pick<FreezeCalls, "thaw">;
	/** Each answer that changes what is known, as it comes. */
	readonly onResult?: (result: RescueResult) => void;
};

const repeatEveryMs = 20;

/**
 * Thaws what a freezer may have left frozen. A FIFREEZE in flight can't be aborted, and a killed freezer completes it:
 * so FITHAW is repeated on each until it answers 0, or until the freezer is reaped and once more after that.
 * Give it only file systems that may be ours: it would thaw a foreign freeze.
 */
export async function rescueThaw(folders: readonly HeldFolder[], options: RescueOptions): Promise<RescueResult[]> {
	const calls = options.calls ?? (await loadFreezeCalls());
	const slots = createSlots(options.parallel ?? 2);
	const ended = Promise.withResolvers<"ended">();
	let reaped = false;
	options.until
		.catch(() => undefined)
		.then(() => {
			reaped = true;
		})
		.catch(() => undefined);
	const onAbort = (): void => ended.resolve("ended");
	options.signal.addEventListener("abort", onAbort, { once: true });
	if (options.signal.aborted) onAbort();
	const results = new Map<HeldFolder, RescueResult>();

	async function rescueOne(folder: HeldFolder): Promise<void> {
		while (!options.signal.aborted) {
			const last = reaped;
			const error = await slots.run(() => calls.thaw(folder.fd));
			note(folder, error);
			if (error === undefined || last) return;
			await Promise.race([sleep(repeatEveryMs), ended.promise]);
		}
	}

	function note(folder: HeldFolder, error: CallError): void {
		const result = toResult(folder, error);
		if (results.get(folder)?.result === result.result) return;
		results.set(folder, result);
		options.onResult?.(result);
	}

	const lowerFirst = folders.toSorted((a, b) => b.target.level - a.target.level);
	await Promise.race([Promise.all(lowerFirst.map(rescueOne)), ended.promise]);
	options.signal.removeEventListener("abort", onAbort);
	return folders.map((folder) => results.get(folder) ?? { ...toResult(folder, "ETIMEDOUT") });
}

function toResult({ target }: HeldFolder, error: CallError): RescueResult {
	const { superblock, mountPoint } = target;
	if (error === undefined) return { superblock, mountPoint, result: "thawed" };
	if (error === "EINVAL") return { superblock, mountPoint, result: "not-frozen" };
	return { superblock, mountPoint, result: "thaw-failed", errno: error };
}

/** At most `size` at a time, in the order of asking. */
function createSlots(size: number): { run<T>(work: () => Promise<T>): Promise<T> } {
	let free = size;
	const queue: (() => void)[] = [];
	return {
		async run(work) {
			if (free > 0) free -= 1;
			else await new Promise<void>((resolve) => queue.push(resolve));
			try {
				return await work();
			} finally {
				const next = queue.shift();
				if (next === undefined) free += 1;
				else next();
			}
		},
	};
}

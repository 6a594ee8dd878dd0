/**
 * The guard: a small process beside the agent that outlives all others of ours. It watches the ledgers on tmpfs, and
 * when the freezer of one has ended, or is late, and nobody else came to the rescue, it thaws what the ledger names.
 * It waits for no disk: nothing of it reads or writes one after its start, and it is idle while there is no ledger.
 */
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { StillpointError } from "../../contracts/errors.ts";
import { readBootId } from "../../platform/linux/boot-id.ts";
import { findLedgerSync } from "../../platform/linux/find-ledger.ts";
import { loadFreezeCalls, loadProcessCalls, setOomScore } from "../../platform/linux/freeze-calls.ts";
import { findProcessIdentity } from "../../platform/linux/process-identity.ts";
import { restoreExpedited } from "../../platform/linux/rcu-expedited.ts";
import { claimFolder } from "./claim-folder.ts";
import { type GuardedHold, guardHold } from "./guarded-hold.ts";
import { pinWhileHeld } from "./pin-while-held.ts";
import { watchFolders } from "./watch-folders.ts";

export type RunGuardOptions = {
	/** The agent's. Ledgers of its jobs, and of `stillpoint check` below it, are watched. */
	readonly runDir: string;
	/** Of the pool, by UV_THREADPOOL_SIZE: a FITHAW that hangs holds one. */
	readonly threads: number;
	/** Ends the guard as soon as nothing is frozen. */
	readonly stopping: AbortSignal;
	/** Ends it at once. */
	readonly ending: AbortSignal;
	/** Told when it was stopped and goes on: what happened meanwhile may have been told to nobody. */
	readonly onContinued: (listener: () => void) => void;
	readonly onReady: () => void;
	/** One line for people. Must not wait. */
	readonly say: (line: string) => void;
};

type Due = { readonly hold: GuardedHold; dueMs: number };

/** Many changes of a ledger within this are one. */
const settleMs = 20;

/** @throws `already-running`, `state-unusable` */
export async function runGuard(options: RunGuardOptions): Promise<void> {
	const { runDir, say } = options;
	const calls = await loadFreezeCalls();
	const processCalls = await loadProcessCalls();
	const bootId = await readBootId();
	const self = findProcessIdentity(process.pid);
	if (self === undefined) throw new StillpointError("platform-unsupported", "/proc is not mounted");
	setOomScore(-1000);
	processCalls.forbidCoreDumps();
	// The way that every FITHAW goes, once: what it loads is loaded.
	await calls.thaw(-1);

	await using undo = new AsyncDisposableStack();
	const claim = await claimFolder(runDir, self);
	undo.defer(() => claim.release());
	const folders = [join(runDir, "freezes"), join(runDir, "check", "freezes")];
	const finished = Promise.withResolvers<void>();
	const holds = new Map<string, Due>();
	const guardOptions = {
		calls,
		parallel: Math.max(2, Math.floor(options.threads / 2)),
		nowMs: () => Number(process.hrtime.bigint()) / 1e6,
		say,
	};
	const pinned = pinWhileHeld(processCalls);
	let timer: NodeJS.Timeout | undefined;
	let expedited = "nothing";
	let wakeAtMs = Number.POSITIVE_INFINITY;
	let closed = false;

	function wake(waitMs: number): void {
		// A rescue that was let go of has news all the same.
		if (closed) return;
		const inMs = Math.max(0, Math.ceil(waitMs));
		const atMs = performance.now() + inMs;
		if (atMs >= wakeAtMs) return;
		clearTimeout(timer);
		wakeAtMs = atMs;
		timer = setTimeout(look, inMs);
	}

	function look(): void {
		wakeAtMs = Number.POSITIVE_INFINITY;
		for (const [path, one] of holds) {
			if (one.dueMs <= performance.now()) lookAt(path, one);
			if (holds.get(path) === one) wake(one.dueMs - performance.now());
		}
		for (const folder of folders) {
			const found = restoreExpedited(folder);
			if (found === "in-use") wake(settleMs);
			if (found !== expedited && (found === "restored" || found === "failed"))
				say(`rcu_expedited was left on by a process that has ended: ${found}`);
			expedited = found;
		}
		if (holds.size > 0) pinned.hold();
		else pinned.letGo();
		endWhenIdle();
	}

	/** Each when it is due: of hundreds, most are only prepared. */
	function lookAt(path: string, one: Due): void {
		const inMs = one.hold.look();
		if (inMs !== undefined) one.dueMs = performance.now() + inMs;
		else {
			holds.delete(path);
			adopt(path);
		}
	}

	/** A ledger that is new. */
	function adopt(path: string): void {
		const ledger = readOwn(path, bootId, say);
		if (ledger === undefined) return;
		const one: Due = { hold: guardHold(path, ledger, { ...guardOptions, onNews: () => hurry(one, 0) }), dueMs: 0 };
		holds.set(path, one);
		wake(0);
	}

	function onName(folder: string, name: string): void {
		if (!folders.includes(folder)) return;
		if (name.endsWith(".json")) {
			const path = join(folder, name);
			const one = holds.get(path);
			if (one === undefined) adopt(path);
			else hurry(one, settleMs);
		}
		if (name.startsWith("rcu-expedited")) wake(settleMs);
	}

	function hurry(one: Due, inMs: number): void {
		one.dueMs = Math.min(one.dueMs, performance.now() + inMs);
		wake(inMs);
	}

	function onFolder(folder: string): void {
		if (folder === runDir) claim.renew().catch(finished.reject);
		if (!folders.includes(folder)) return;
		for (const name of list(folder)) onName(folder, name);
	}

	function endWhenIdle(): void {
		const mayBeFrozen = [...holds.values()].some(({ hold }) => hold.mayBeFrozen);
		if (options.ending.aborted || (options.stopping.aborted && !mayBeFrozen)) finished.resolve();
	}

	undo.defer(() => {
		closed = true;
		clearTimeout(timer);
		for (const { hold } of holds.values()) hold.drop();
	});
	const below = [folders[0], join(runDir, "check"), folders[1]] as string[];
	const watching = undo.use(watchFolders({ top: runDir, below, onName, onFolder }));
	options.onContinued(() => {
		watching.look();
		for (const folder of folders) onFolder(folder);
	});
	for (const signal of [options.stopping, options.ending]) signal.addEventListener("abort", () => wake(0));
	look();
	options.onReady();
	await finished.promise;
}

/** A ledger of this boot; what is none is told once for each change. */
function readOwn(path: string, bootId: string, say: (line: string) => void) {
	try {
		const ledger = findLedgerSync(path);
		return ledger?.bootId === bootId ? ledger : undefined;
	} catch (error) {
		say(`${(error as Error).message}: not guarded`);
		return undefined;
	}
}

function list(folder: string): string[] {
	try {
		return readdirSync(folder);
	} catch {
		return [];
	}
}

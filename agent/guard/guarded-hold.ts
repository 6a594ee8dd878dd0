/**
 * One hold, from the moment when its ledger appears: its directories are held open, and when its freezer has ended or
 * is late, they are thawed here.
 */
import { setTimeout as sleep } from "node:timers/promises";
import type { Ledger } from "../../contracts/freezer-protocol.ts";
import type { FreezeCalls } from "../../platform/linux/freeze-calls.ts";
import { removeLedger } from "../../platform/linux/freezer/ledger-file.ts";
import { findProcessLife } from "../../platform/linux/process-identity.ts";
import { openLedgerTarget, reopenTarget } from "../../platform/linux/reopen-target.ts";
import { type RescueResult, rescueThaw } from "../../platform/linux/rescue-thaw.ts";
import { closeFolders, type HeldFolder, isHeld } from "../../platform/linux/target-folders.ts";
import { type FollowedLedger, followLedger } from "./followed-ledger.ts";

/** For the extension, or the agent, to thaw by itself what its killed freezer left. */
const graceMs = 300;
/** After the deadline of the freezer. The extension's margin is 500 ms, the agent's 1000; the promise is 2000. */
const deadlineMarginMs = 1_300;
/** The longest hold that an order may ask for: a ledger that names no deadline is older than this never. */
const longestHoldMs = 900_000;
/** `removed`: who takes the whole folder away removes its files first. */
const pollMs = { mayBeFrozen: 25, prepared: 1_000, removed: 5 };
const again = { firstMs: 100, mostMs: 1_000 };
/** A path may lead to a server that does not answer any more: a round goes on without it. */
const openLimitMs = 3_000;

export type GuardedHold = {
	readonly path: string;
	/** Whether something may be frozen by it that can be thawed from here. */
	readonly mayBeFrozen: boolean;
	/** Looks at ledger and freezer, begins the rescue. Returns when to look again, in ms; undefined: it is over. */
	look(): number | undefined;
	/** Lets go of it without a thaw. */
	drop(): void;
};

export type GuardOptions = {
	readonly calls: Pick<FreezeCalls, "thaw">;
	/** Threads of the pool that FITHAW may hold. */
	readonly parallel: number;
	readonly nowMs: () => number;
	readonly say: (line: string) => void;
	/** The rescue has ended: `look` has news. */
	readonly onNews: () => void;
};

export function guardHold(path: string, first: Ledger, options: GuardOptions): GuardedHold {
	const { nowMs, say } = options;
	const followed = followLedger(path, first);
	const { jobId, freezer } = first;
	const held = new Map<string, HeldFolder>();
	/** It answered 0: it was frozen, and is not any more. The next to freeze it is somebody else. */
	const thawed = new Set<string>();
	/** Ways that are being tried: one that hangs holds a thread, so it is not tried again beside itself. */
	const opening = new Map<string, Promise<void>>();
	const giveUp = new AbortController();
	const firstSeenMs = nowMs();
	let begun = false;
	let goneSinceMs: number | undefined;
	let rescue: Promise<void> | undefined;
	let over = false;
	let removed = false;
	let mayBeFrozen = false;

	function end(): void {
		if (over) return;
		over = true;
		mayBeFrozen = false;
		giveUp.abort();
		closeFolders([...held.values()]);
		held.clear();
	}

	/** Before the freeze, when there is time; afterwards the same directories lead there, whatever becomes of the paths. */
	async function openAll(): Promise<void> {
		await Promise.all(followed.ledger.fileSystems.map((one) => keep(one, openLedgerTarget)));
		const missing = followed.ledger.fileSystems.filter(({ superblock }) => !held.has(superblock));
		if (!over && missing.length > 0) say(`job ${jobId}: ${names(missing)} cannot be held open`);
	}

	async function tryToKeep({ state: _, fd, ...target }: Ledger["fileSystems"][number], open: typeof reopenTarget) {
		if (held.has(target.superblock)) return;
		const found = await open({ target, fd }, freezer).catch(() => undefined);
		if (found === undefined || !isHeld(found)) return;
		if (over || held.has(target.superblock)) closeFolders([found]);
		else held.set(target.superblock, found);
	}

	function keep(one: Ledger["fileSystems"][number], open: typeof reopenTarget): Promise<void> {
		const before = opening.get(one.superblock);
		if (before !== undefined) return before;
		const attempt = tryToKeep(one, open).finally(() => opening.delete(one.superblock));
		opening.set(one.superblock, attempt);
		return attempt;
	}

	function startRescue(why: string): void {
		say(`job ${jobId}: ${why}, thawing ${names(suspects())}`);
		rescue = rescueAll()
			.catch((error: unknown) => say(`job ${jobId}: ${String(error)}`))
			.finally(() => {
				rescue = undefined;
				options.onNews();
			});
	}

	async function rescueAll(): Promise<void> {
		const told = new Map<string, string>();
		for (let waitMs = again.firstMs; !over; waitMs = Math.min(2 * waitMs, again.mostMs)) {
			// A round that began while the freezer lived may have looked at an old ledger: one more after its end.
			const wasGone = findProcessLife(freezer) === "ended";
			const { failed, unreached } = await rescueRound(told);
			if (wasGone && failed + unreached === 0) break;
			mayBeFrozen = !wasGone || failed > 0;
			if (wasGone) await sleep(waitMs);
			else await whenEnded(followed, giveUp.signal);
		}
		if (over) return;
		if (followed.readNow().type !== "over") removeLedger(path);
		end();
	}

	/** Returns how many are not known to be thawed. */
	async function rescueRound(told: Map<string, string>): Promise<{ failed: number; unreached: number }> {
		const now = suspects();
		const missing = now.filter(({ superblock }) => !held.has(superblock));
		// What is open is thawed at once, whatever becomes of the ways to the others.
		const thawing = thawHeld(now, told);
		if (missing.length > 0) {
			const reached = Promise.all(missing.map((one) => keep(one, reopenTarget)));
			await Promise.race([reached, sleep(openLimitMs, undefined, { ref: false })]);
		}
		const unreached = missing.filter(({ superblock }) => !held.has(superblock));
		for (const { mountPoint } of unreached)
			tell(told, { mountPoint, result: "thaw-failed", errno: "no way leads to it" });
		const results = (await Promise.all([thawing, thawHeld(missing, told)])).flat();
		const failed = results.filter(({ result }) => result === "thaw-failed").length;
		return { failed, unreached: unreached.length };
	}

	function thawHeld(fileSystems: Ledger["fileSystems"], told: Map<string, string>): Promise<RescueResult[]> {
		return rescueThaw(
			fileSystems.flatMap(({ superblock }) => held.get(superblock) ?? []),
			{
				until: whenEnded(followed, giveUp.signal),
				signal: giveUp.signal,
				parallel: options.parallel,
				// Others rescue, too, and somebody else may freeze as soon as they are done.
				calls: { thaw: async (fd) => (isSuspect(fd) ? options.calls.thaw(fd) : "EINVAL") },
				onResult: (one) => {
					if (one.result === "thawed") thawed.add(one.superblock);
					tell(told, one);
				},
			},
		);
	}

	function tell(told: Map<string, string>, one: Omit<RescueResult, "superblock">): void {
		const text = one.errno === undefined ? one.result : `${one.result} (${one.errno})`;
		if (told.get(one.mountPoint) === text) return;
		told.set(one.mountPoint, text);
		say(`job ${jobId}: ${one.mountPoint} ${text}`);
	}

	function isSuspect(fd: number): boolean {
		return suspects().some(({ superblock }) => held.get(superblock)?.fd === fd);
	}

	function suspects(): Ledger["fileSystems"] {
		const now = followed.readNow();
		return now.type === "over" ? [] : now.suspects.filter(({ superblock }) => !thawed.has(superblock));
	}

	function look(): number | undefined {
		if (over) return undefined;
		if (rescue !== undefined) return pollMs.prepared;
		const now = followed.readNow();
		if (now.type === "over") {
			if (removed) end();
			removed = true;
			return over ? undefined : pollMs.removed;
		}
		removed = false;
		if (!begun) void openAll();
		begun = true;
		mayBeFrozen = now.suspects.length > 0;
		const { deadlineAtMs = firstSeenMs + longestHoldMs } = now.ledger;
		const life = findProcessLife(freezer);
		goneSinceMs = life === "alive" ? undefined : (goneSinceMs ?? nowMs());
		if (goneSinceMs !== undefined && nowMs() - goneSinceMs >= graceMs) {
			if (mayBeFrozen) startRescue("its freezer has ended");
			else if (life === "ended") {
				removeLedger(path);
				end();
				return undefined;
			}
		} else if (goneSinceMs === undefined && mayBeFrozen && nowMs() >= deadlineAtMs + deadlineMarginMs) {
			endFreezer(followed);
			startRescue("its deadline has passed");
		}
		return mayBeFrozen || goneSinceMs !== undefined ? pollMs.mayBeFrozen : pollMs.prepared;
	}

	return {
		path,
		get mayBeFrozen() {
			return mayBeFrozen;
		},
		look,
		drop: end,
	};
}

/** Its own thaw is late; one that is stopped or stuck could freeze more when it goes on. */
function endFreezer({ ledger: { freezer } }: FollowedLedger): void {
	if (findProcessLife(freezer) === "ended") return;
	try {
		process.kill(freezer.pid, "SIGKILL");
	} catch {
		// It ended in between.
	}
}

async function whenEnded({ ledger: { freezer } }: FollowedLedger, signal: AbortSignal): Promise<void> {
	while (findProcessLife(freezer) !== "ended" && !signal.aborted) await sleep(10);
}

function names(fileSystems: readonly { mountPoint: string }[]): string {
	return fileSystems.map(({ mountPoint }) => mountPoint).join(", ") || "nothing";
}

/**
 * The agent as the third holder of a hold, beside the freezer and the extension: it has the directories open from
 * before the first freeze, and a deadline a little after theirs, at which it thaws by itself what may be ours.
 */
import { dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { StillpointError } from "../contracts/errors.ts";
import type { FreezeTarget } from "../contracts/freezer-protocol.ts";
import { type FreezeCalls, loadFreezeCalls } from "../platform/linux/freeze-calls.ts";
import { removeLedger } from "../platform/linux/freezer/ledger-file.ts";
import { findSuspects } from "../platform/linux/ledger-suspects.ts";
import { findProcessIdentity, isSameProcessAlive, type ProcessIdentity } from "../platform/linux/process-identity.ts";
import { restoreExpedited } from "../platform/linux/rcu-expedited.ts";
import { type HeldTargets, openTargets, type RescueResult, rescueThaw } from "../platform/linux/rescue-thaw.ts";
import { within } from "../platform/within.ts";
import type { Log } from "./log.ts";
import type { WriteHold } from "./write-hold.ts";

const marginMs = 1_000;
const quietLimitMs = 2_000;
const openLimitMs = 5_000;
const stuckAfterMs = 500;

export type ThirdHolder = {
	/** From `freezing` until it is known that nothing of this job is frozen. */
	readonly mayBeFrozen: boolean;
	readonly targets: readonly FreezeTarget[];
	/** Before the freeze. Targets that cannot be opened are left to the other two holders, and logged. */
	open(targets: readonly FreezeTarget[]): Promise<void>;
	/** The deadline runs from the call; resolves when no write of the agent is in flight. */
	freezing(told: { holdLimitMs: number; freezerPid: number }): Promise<void>;
	/** Everything is thawed: writes go on. */
	thawed(): void;
	/** Thaws what may still be ours until nothing is, or `signal` gives up; true when nothing is frozen any more. */
	rescue(why: string, signal: AbortSignal): Promise<boolean>;
};

export function makeThirdHolder(given: {
	jobId: string;
	runDir: string;
	hold: WriteHold;
	log: Log;
	/** The deadline passed and the rescue has begun. */
	onDeadline(): void;
	/** Something stays frozen; repeated with each change. */
	onStuck(mountPoints: string[]): void;
}): ThirdHolder {
	const { jobId, hold, log } = given;
	const ledgerPath = join(given.runDir, "freezes", `${jobId}.json`);
	const giveUp = new AbortController();
	const state = {
		mayBeFrozen: false,
		targets: [] as readonly FreezeTarget[],
		held: undefined as HeldTargets | undefined,
		calls: undefined as FreezeCalls | undefined,
		freezer: undefined as ProcessIdentity | undefined,
		timer: undefined as NodeJS.Timeout | undefined,
		rescue: undefined as Promise<boolean> | undefined,
		thawed: new Set<string>(),
	};

	function letGo(): void {
		clearTimeout(state.timer);
		state.mayBeFrozen = false;
		state.held?.[Symbol.dispose]();
		state.held = undefined;
		hold.release();
	}

	function startRescue(why: string, signal: AbortSignal): Promise<boolean> {
		if (!state.mayBeFrozen) {
			letGo();
			return Promise.resolve(true);
		}
		signal.addEventListener("abort", () => giveUp.abort(), { once: true });
		if (signal.aborted) giveUp.abort();
		state.rescue ??= rescueAll(why).finally(() => {
			state.rescue = undefined;
		});
		return state.rescue;
	}

	async function rescueAll(why: string): Promise<boolean> {
		log.warn("thawing what may still be frozen", { jobId, why });
		const { freezer } = state;
		if (freezer !== undefined && isSameProcessAlive(freezer)) endProcess(freezer);
		const over = whenOver(freezer, giveUp.signal);
		const began = performance.now();
		const failed = new Map<string, string>();
		const onResult = (one: RescueResult) => {
			if (one.result === "thaw-failed") failed.set(one.superblock, one.mountPoint);
			else failed.delete(one.superblock);
			if (one.result === "thawed") state.thawed.add(one.superblock);
		};
		const told = setInterval(() => {
			const waiting = failed.size > 0 ? [...failed.values()] : suspects().map(({ target }) => target.mountPoint);
			if (performance.now() - began > stuckAfterMs && waiting.length > 0) given.onStuck(waiting);
		}, stuckAfterMs);
		try {
			for (;;) {
				const gone = freezer === undefined || !isSameProcessAlive(freezer);
				const folders = suspects();
				const results = await rescueThaw(folders, {
					until: over,
					signal: giveUp.signal,
					onResult,
					parallel: 6,
					...(state.calls === undefined ? {} : { calls: state.calls }),
				});
				for (const { mountPoint, result, errno } of results) log.warn("rescue", { jobId, mountPoint, result, errno });
				if (giveUp.signal.aborted) return false;
				// A round that began while the freezer lived may have looked at an old ledger: one more after its end.
				if (gone && results.every(({ result }) => result !== "thaw-failed")) break;
				await over;
				if (gone) await sleep(100);
			}
		} finally {
			clearInterval(told);
		}
		restoreExpedited(dirname(ledgerPath));
		// What is thawed must not be thawed once more by a later start: it could be somebody else's freeze by then.
		removeLedger(ledgerPath);
		letGo();
		return true;
	}

	/** By the ledger: what somebody else froze is never thawed. Nor is what was thawed here: the next one is not ours. */
	function suspects() {
		const found = findSuspects(ledgerPath, state.held?.folders ?? []);
		return found.filter(({ target }) => !state.thawed.has(target.superblock));
	}

	return {
		get mayBeFrozen() {
			return state.mayBeFrozen;
		},
		get targets() {
			return state.targets;
		},
		async open(targets) {
			if (state.held !== undefined) throw new StillpointError("message-invalid", "the targets were told before");
			const opening = openTargets(targets);
			[state.held, state.calls] = await within(
				Promise.all([opening, loadFreezeCalls()]),
				openLimitMs,
				"opening the targets",
			).catch((error: unknown) => {
				opening.then((late) => late[Symbol.dispose]()).catch(() => {});
				throw error;
			});
			state.targets = targets;
			for (const { target, message } of state.held.faults)
				log.warn("a target cannot be held open here", { jobId, mountPoint: target.mountPoint, message });
		},
		async freezing({ holdLimitMs, freezerPid }) {
			if (state.mayBeFrozen) throw new StillpointError("message-invalid", "freezing was told before");
			state.mayBeFrozen = true;
			state.freezer = findProcessIdentity(freezerPid);
			state.timer = setTimeout(() => {
				given.onDeadline();
				void startRescue("deadline", giveUp.signal);
			}, holdLimitMs + marginMs);
			await hold.quiet(quietLimitMs);
		},
		thawed() {
			if (state.rescue === undefined) letGo();
		},
		rescue: startRescue,
	};
}

function endProcess({ pid }: ProcessIdentity): void {
	try {
		process.kill(pid, "SIGKILL");
	} catch {
		// It ended in between.
	}
}

async function whenOver(identity: ProcessIdentity | undefined, signal: AbortSignal): Promise<void> {
	while (identity !== undefined && isSameProcessAlive(identity) && !signal.aborted) await sleep(10);
}

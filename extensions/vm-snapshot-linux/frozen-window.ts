import { dirname } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { StillpointError } from "../../contracts/errors.ts";
import { mayBeOurs } from "../../contracts/freezer-protocol.ts";
import type { FreezeCalls } from "../../platform/linux/freeze-calls.ts";
import type { Freezer, FrozenEvent } from "../../platform/linux/freezer/freezer-client.ts";
import { removeLedger } from "../../platform/linux/freezer/ledger-file.ts";
import { findSuspects } from "../../platform/linux/ledger-suspects.ts";
import { countThreadsInKernel } from "../../platform/linux/process-identity.ts";
import { restoreExpedited } from "../../platform/linux/rcu-expedited.ts";
import { type RescueResult, rescueThaw } from "../../platform/linux/rescue-thaw.ts";
import type { HeldFolder } from "../../platform/linux/target-folders.ts";
import type { Clock } from "./clock.ts";
import type { HoldAnswers } from "./hold-answers.ts";

export type FrozenWindowOptions = {
	readonly jobId: string;
	readonly freezer: Freezer;
	/** Open since before the freeze, so that we can thaw when the freezer can't. */
	readonly folders: readonly HeldFolder[];
	readonly calls: Pick<FreezeCalls, "thaw">;
	readonly answers: HoldAnswers;
	readonly clock: Clock;
	/** Some file systems stay frozen though everything is tried; repeated while that lasts. */
	readonly onStuck: (mountPoints: string[]) => void;
};

/** After the freezer's own deadline. */
const ownMarginMs = 500;
/** For the freezer to thaw when asked; then it is taken for stopped or stuck. */
const askLimitMs = 1_000;
/** `stuck` is told within a second of the moment when the thaw was due, as far as the kernel is what it waits for. */
const stuckAfterMs = 500;

/**
 * The window from before the first FIFREEZE until everything is thawed, and its second holder: what the freezer does
 * not thaw in time is thawed here, whatever became of the freezer.
 */
export class FrozenWindow {
	readonly #options: FrozenWindowOptions;
	readonly #ended = new AbortController();
	readonly #forced = Promise.withResolvers<void>();
	#timer: NodeJS.Timeout | undefined;
	#begun = false;
	#asked = false;
	#thaw: Promise<void> | undefined;

	constructor(options: FrozenWindowOptions) {
		this.#options = options;
		const { freezer } = options;
		freezer.thawed.then(
			({ cause }) => this.#end(cause === "deadline" ? "hold-expired" : "freezer-died", `the freezer thawed (${cause})`),
			() => this.#end("freezer-died", "the freezer ended without thawing"),
		);
		freezer.exited.then(() => this.#end("freezer-died", "the freezer ended")).catch(() => undefined);
	}

	/** Aborts when the hold ends without our asking: the freezer's deadline or ours, or the freezer's death. */
	get ended(): AbortSignal {
		return this.#ended.signal;
	}

	/** Freezes everything. @throws what `Freezer.freeze` throws. Whatever it throws, `thaw` must follow. */
	async freeze(limits: { holdLimitMs: number; freezeLimitMs: number; expedited: boolean }): Promise<FrozenEvent> {
		this.#begun = true;
		this.#timer = setTimeout(() => {
			this.#end("hold-expired", `the hold was not over after ${limits.holdLimitMs} ms`);
			this.#forced.resolve();
			void this.thaw().catch(() => undefined);
		}, limits.holdLimitMs + ownMarginMs);
		return await this.#options.freezer.freeze(limits);
	}

	/** Asks for the thaw of these alone, while the hold goes on: what is not answered is thawed with the others. */
	thawSome(superblocks: readonly string[]): void {
		if (!this.#begun || this.#asked) return;
		this.#options.freezer.thawSome(superblocks);
	}

	/**
	 * Thaws everything; resolves when nothing of ours is frozen any more, however long the kernel takes.
	 * @throws `thaw-failed` when FITHAW refuses for another reason than that it is not frozen.
	 */
	thaw(): Promise<void> {
		this.#thaw ??= this.#thawAll();
		return this.#thaw;
	}

	async #thawAll(): Promise<void> {
		if (!this.#begun) return;
		this.#asked = true;
		// A call in flight is the kernel's: who waits for the thaw hears of it before the freezer is given up.
		const late = setTimeout(() => this.#tellInFlight(), stuckAfterMs);
		try {
			if (!(await this.#askFreezer())) await this.#rescue();
		} finally {
			clearTimeout(late);
			clearTimeout(this.#timer);
		}
	}

	#tellInFlight(): void {
		const { answers, onStuck } = this.#options;
		const thawing = this.#findThawing();
		const inFlight = this.#suspects().filter(
			(one) => !answers.freezes.has(one.target.superblock) || thawing.includes(one),
		);
		if (inFlight.length > 0) onStuck(inFlight.map(({ target }) => target.mountPoint));
	}

	/** Whether it said that all is thawed. */
	async #askFreezer(): Promise<boolean> {
		const { freezer } = this.#options;
		const isAll = ({ fileSystems }: Awaited<Freezer["thawed"]>) =>
			fileSystems.every(({ result }) => !mayBeOurs(result));
		const asked = freezer.thaw(askLimitMs).then(isAll, () => this.#waitForKernel().then(isAll, () => false));
		return Promise.race([asked, this.#forced.promise.then(() => false)]);
	}

	/**
	 * As long as the kernel, and not the freezer, is late with the thaw: nobody could thaw it sooner, and the answer of
	 * that FITHAW is the proof of the hold. It would be lost with the freezer, and ours finds nothing frozen then.
	 */
	async #waitForKernel(): Promise<Awaited<Freezer["thawed"]>> {
		const { freezer, onStuck } = this.#options;
		for (;;) {
			const thawing = this.#findThawing();
			if (thawing.length === 0) throw new StillpointError("stuck", "the freezer does not thaw");
			onStuck(thawing.map(({ target }) => target.mountPoint));
			const thawed = await Promise.race([freezer.thawed, sleep(stuckAfterMs, undefined, { ref: false })]);
			if (thawed !== undefined) return thawed;
		}
	}

	/** What waits in a FITHAW of the freezer that has not answered; none when it waits for anything else, too. */
	#findThawing(): readonly HeldFolder[] {
		const { answers, freezer } = this.#options;
		const left = this.#suspects().filter(({ target }) => answers.thaws.get(target.superblock)?.result !== "thawed");
		const isFrozen = left.every(({ target }) => answers.freezes.get(target.superblock)?.result === "frozen");
		return isFrozen && countThreadsInKernel(freezer.identity) === left.length ? left : [];
	}

	/** Until the freezer is reaped, and once more after that with what its ledger says then. */
	async #rescue(): Promise<void> {
		const { freezer, jobId } = this.#options;
		freezer.kill("SIGKILL");
		const waiting = new Map(this.#suspects().map(({ target }) => [target.superblock, target.mountPoint]));
		const stuck = setInterval(() => {
			if (waiting.size > 0) this.#options.onStuck([...waiting.values()]);
		}, stuckAfterMs);
		try {
			await this.#rescueRound(freezer.exited, waiting);
			await freezer.exited;
			restoreExpedited(dirname(freezer.ledgerPath(jobId)));
			const last = await this.#rescueRound(Promise.resolve(), waiting);
			const failed = last.filter(({ result }) => result === "thaw-failed");
			if (failed.length === 0) {
				// A later thaw by the ledger could meet somebody else's freeze.
				removeLedger(freezer.ledgerPath(jobId));
				return;
			}
			const mountPoints = failed.map(({ mountPoint }) => mountPoint);
			this.#options.onStuck(mountPoints);
			const why = failed.map(({ mountPoint, errno }) => `${mountPoint} (${errno ?? "?"})`).join(", ");
			throw new StillpointError("thaw-failed", `FITHAW failed: ${why}`, { details: { mountPoints } });
		} finally {
			clearInterval(stuck);
		}
	}

	async #rescueRound(until: Promise<unknown>, waiting: Map<string, string>): Promise<RescueResult[]> {
		const { answers, calls, clock } = this.#options;
		const folders = this.#suspects();
		const startedAtMs = clock.nowMs();
		return rescueThaw(folders, {
			until,
			// The kernel decides when it lets go; there is nothing better to do than to wait for it.
			signal: new AbortController().signal,
			calls,
			parallel: Math.max(2, folders.length),
			onResult: ({ superblock, result, errno }) => {
				if (result === "thawed") waiting.delete(superblock);
				const withErrno = errno === undefined ? {} : { errno };
				answers.noteThaw(superblock, { result, startedAtMs, endedAtMs: clock.nowMs(), ...withErrno });
			},
		}).then((results) => {
			for (const { superblock, result } of results) if (result !== "thaw-failed") waiting.delete(superblock);
			return results;
		});
	}

	/** What may be frozen by us: by the ledger, and never what answered that somebody else holds it, or was thawed. */
	#suspects(): readonly HeldFolder[] {
		const { folders, answers, freezer, jobId } = this.#options;
		return findSuspects(freezer.ledgerPath(jobId), folders).filter(({ target }) => {
			const freeze = answers.freezes.get(target.superblock)?.result;
			const thaw = answers.thaws.get(target.superblock)?.result;
			// The next to freeze it is somebody else.
			if (thaw === "thawed") return false;
			return freeze === undefined || freeze === "frozen";
		});
	}

	#end(code: "hold-expired" | "freezer-died", what: string): void {
		if (this.#begun && !this.#asked) this.#ended.abort(new StillpointError(code, what));
	}
}

import { setTimeout as sleep } from "node:timers/promises";
import type { FreezeResult, FreezerEvent } from "../../../contracts/freezer-protocol.ts";
import type { CallError, FreezeCalls } from "../freeze-calls.ts";
import { mayBeFrozenByUs } from "../freeze-states.ts";
import type { HeldFolder } from "../target-folders.ts";

type FileSystemEvent = Omit<Extract<FreezerEvent, { type: "fileSystem" }>, "type">;
export type ThawCause = Extract<FreezerEvent, { type: "thawed" }>["cause"];

/** A file system of the hold, with what is known of it. */
export type HeldFileSystem = HeldFolder & { state: FreezeResult };

export type HoldOptions = {
	readonly fileSystems: readonly HeldFileSystem[];
	readonly calls: Pick<FreezeCalls, "freeze" | "thaw">;
	readonly freezeLimitMs: number;
	/** Threads of the pool: half of them may be in FIFREEZE, so that a FITHAW always finds a free one. */
	readonly threads: number;
	/** Aborted with a `ThawCause` when the hold has to end. */
	readonly stop: AbortSignal;
	/** Called after each change of state, before the call that it announces is made. Must not wait; may throw. */
	readonly onState: () => void;
	readonly onEvent: (event: FreezerEvent) => void;
	readonly nowMs: () => number;
};

type Failure = Omit<Extract<FreezerEvent, { type: "failed" }>, "type">;

/** A lower layer that takes longer than this to thaw no longer holds up the layers above it. */
const thawLevelLimitMs = 250;
const thawAttempts = 4;

/**
 * Freezes level by level. Undefined: everything is frozen. While one is late, no further freeze begins; those in
 * flight stay so, `thawAll` waits for them.
 */
export async function freezeAll(
	options: HoldOptions,
	inFlight: Map<HeldFileSystem, Promise<void>>,
): Promise<Failure | undefined> {
	const parallel = Math.max(1, Math.floor((options.threads - 2) / 2));
	let failure: Failure | undefined;
	for (const level of byLevel(options.fileSystems, "ascending")) {
		const waiting = [...level];
		const late = sleep(options.freezeLimitMs, "late" as const, { ref: false });
		const stopped = whenAborted(options.stop);
		const running = new Set<Promise<void>>();
		while ((waiting.length > 0 || running.size > 0) && failure === undefined && !options.stop.aborted) {
			const batch = waiting.splice(0, parallel - running.size);
			announce(options, batch);
			for (const one of batch) {
				const freezing = freezeOne(options, one).then((found) => {
					failure ??= found;
					running.delete(freezing);
					inFlight.delete(one);
				});
				running.add(freezing);
				inFlight.set(one, freezing);
			}
			if ((await Promise.race([...running, late, stopped.promise])) === "late") {
				const slow = [...inFlight.keys()][0];
				failure ??= {
					reason: "freeze-late",
					...(slow === undefined ? {} : { superblock: slow.target.superblock }),
					message: `${slow?.target.mountPoint ?? "a level"} was not frozen within ${options.freezeLimitMs} ms`,
				};
			}
		}
		stopped.release();
		if (failure !== undefined || options.stop.aborted) return failure;
	}
	recordQuietly(options);
	return failure;
}

/** @throws when it can't be recorded: then no FIFREEZE of these is made. */
function announce(options: HoldOptions, batch: readonly HeldFileSystem[]): void {
	if (batch.length === 0) return;
	for (const one of batch) one.state = "freezing";
	try {
		options.onState();
	} catch (error) {
		for (const one of batch) one.state = "pending";
		throw error;
	}
}

/** A record that can't be written holds up no thaw. What it says then is older, and names more than is frozen. */
function recordQuietly(options: HoldOptions): void {
	try {
		options.onState();
	} catch {
		// The rescuers find less to do than they are told.
	}
}

async function freezeOne(options: HoldOptions, one: HeldFileSystem): Promise<Failure | undefined> {
	const { superblock, mountPoint } = one.target;
	const startedAtMs = options.nowMs();
	const error = await options.calls.freeze(one.fd);
	const endedAtMs = options.nowMs();
	one.state = freezeResultOf(error);
	// "frozen" and "freezing" mean the same to a rescuer; that it is not ours, it must learn at once.
	if (one.state !== "frozen") recordQuietly(options);
	options.onEvent({ type: "fileSystem", superblock, result: one.state, ...withErrno(error), startedAtMs, endedAtMs });
	if (error === undefined) return undefined;
	return {
		reason: one.state === "foreign" ? "foreign-freeze" : "freeze-failed",
		superblock,
		message:
			one.state === "foreign"
				? `${mountPoint} is frozen by somebody else`
				: `${mountPoint}: FIFREEZE answered ${error}`,
	};
}

/**
 * Thaws all that this hold froze, lower layers first, each on its own thread. A FIFREEZE in flight can't be aborted:
 * the others are thawed meanwhile, and it is thawed when the kernel lets go of it.
 */
export async function thawAll(
	options: HoldOptions,
	inFlight: ReadonlyMap<HeldFileSystem, Promise<void>>,
): Promise<FileSystemEvent[]> {
	const answers = new Map<HeldFileSystem, FileSystemEvent>();
	const thawing: Promise<void>[] = [];
	async function thawOne(one: HeldFileSystem): Promise<void> {
		if (!mayBeFrozenByUs(one.state)) return;
		const answer = await thawUntilAnswered(options, one);
		answers.set(one, answer);
		options.onEvent({ type: "fileSystem", ...answer });
	}
	for (const [one, freezing] of inFlight) thawing.push(freezing.then(() => thawOne(one)));
	const started = new Set(inFlight.keys());
	for (const level of byLevel(options.fileSystems, "descending")) {
		const now = level.filter((one) => !started.has(one) && mayBeFrozenByUs(one.state)).map(thawOne);
		thawing.push(...now);
		if (now.length === 0) continue;
		await Promise.race([Promise.all(now), sleep(thawLevelLimitMs, undefined, { ref: false })]);
		recordQuietly(options);
	}
	await Promise.all(thawing);
	recordQuietly(options);
	const atMs = options.nowMs();
	return options.fileSystems.map(
		(one) =>
			answers.get(one) ?? { superblock: one.target.superblock, result: one.state, startedAtMs: atMs, endedAtMs: atMs },
	);
}

async function thawUntilAnswered(options: HoldOptions, one: HeldFileSystem): Promise<FileSystemEvent> {
	const startedAtMs = options.nowMs();
	let error = await options.calls.thaw(one.fd);
	for (let attempt = 1; attempt < thawAttempts && error !== undefined && error !== "EINVAL"; attempt += 1) {
		await sleep(20 * attempt);
		error = await options.calls.thaw(one.fd);
	}
	one.state = error === undefined ? "thawed" : error === "EINVAL" ? "not-frozen" : "thaw-failed";
	return {
		superblock: one.target.superblock,
		result: one.state,
		...withErrno(error),
		startedAtMs,
		endedAtMs: options.nowMs(),
	};
}

function freezeResultOf(error: CallError): FreezeResult {
	switch (error) {
		case undefined:
			return "frozen";
		case "EBUSY":
			return "foreign";
		case "EOPNOTSUPP":
		case "ENOTSUP":
			return "unsupported";
		default:
			return "failed";
	}
}

function byLevel(fileSystems: readonly HeldFileSystem[], order: "ascending" | "descending"): HeldFileSystem[][] {
	const levels = Map.groupBy(fileSystems, (one) => one.target.level);
	const sign = order === "ascending" ? 1 : -1;
	return [...levels].sort(([a], [b]) => sign * (a - b)).map(([, level]) => level);
}

function whenAborted(signal: AbortSignal): { promise: Promise<"stopped">; release(): void } {
	const { promise, resolve } = Promise.withResolvers<"stopped">();
	const listener = (): void => resolve("stopped");
	if (signal.aborted) listener();
	signal.addEventListener("abort", listener, { once: true });
	return { promise, release: () => signal.removeEventListener("abort", listener) };
}

function withErrno(error: CallError): { errno?: string } {
	return error === undefined ? {} : { errno: error };
}

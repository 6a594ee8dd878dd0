import { setTimeout as sleep } from "node:timers/promises";
import type { FreezeResult, FreezerEvent } from "../../../contracts/freezer-protocol.ts";
import type { CallError } from "../freeze-calls.ts";
import { byLevel, type HeldFileSystem, type HoldOptions, recordQuietly, withErrno } from "./hold.ts";

type Failure = Omit<Extract<FreezerEvent, { type: "failed" }>, "type">;

/**
 * Freezes level by level. Undefined: everything is frozen, and it is left to the caller to record that. While one is
 * late, no further freeze begins; those in flight stay so, `thawAll` waits for them. What answered is told when its
 * level is over: writers wait meanwhile.
 */
export async function freezeAll(
	options: HoldOptions,
	inFlight: Map<HeldFileSystem, Promise<void>>,
): Promise<Failure | undefined> {
	for (const level of byLevel(options.fileSystems, "ascending")) {
		const answers = heldBack(options.onEvents);
		try {
			const failure = await freezeLevel({ ...options, onEvents: answers.tell }, level, inFlight);
			if (failure !== undefined || options.stop.aborted) return failure;
		} finally {
			answers.release();
		}
	}
	return undefined;
}

async function freezeLevel(
	options: HoldOptions,
	level: readonly HeldFileSystem[],
	inFlight: Map<HeldFileSystem, Promise<void>>,
): Promise<Failure | undefined> {
	const parallel = Math.max(1, Math.floor((options.threads - 2) / 2));
	const waiting = [...level];
	const running = new Set<Promise<void>>();
	const late = sleep(options.freezeLimitMs, "late" as const, { ref: false });
	const stopped = whenAborted(options.stop);
	let failure: Failure | undefined;
	try {
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
		return failure;
	} finally {
		stopped.release();
	}
}

/** Keeps what is told until the release; what comes later is told at once. */
function heldBack(onEvents: HoldOptions["onEvents"]): { tell: HoldOptions["onEvents"]; release(): void } {
	const kept: FreezerEvent[] = [];
	let isReleased = false;
	return {
		tell: (events) => (isReleased ? onEvents(events) : void kept.push(...events)),
		release() {
			isReleased = true;
			if (kept.length > 0) onEvents(kept);
		},
	};
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

async function freezeOne(options: HoldOptions, one: HeldFileSystem): Promise<Failure | undefined> {
	const { superblock, mountPoint } = one.target;
	const startedAtMs = options.nowMs();
	const error = await options.calls.freeze(one.fd);
	const endedAtMs = options.nowMs();
	one.state = freezeResultOf(error);
	// "frozen" and "freezing" mean the same to a rescuer; that it is not ours, it must learn at once.
	if (one.state !== "frozen") recordQuietly(options);
	const answer = { superblock, result: one.state, ...withErrno(error), startedAtMs, endedAtMs };
	options.onEvents([{ type: "fileSystem", ...answer }]);
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

function whenAborted(signal: AbortSignal): { promise: Promise<"stopped">; release(): void } {
	const { promise, resolve } = Promise.withResolvers<"stopped">();
	const listener = (): void => resolve("stopped");
	if (signal.aborted) listener();
	signal.addEventListener("abort", listener, { once: true });
	return { promise, release: () => signal.removeEventListener("abort", listener) };
}

import { setTimeout as sleep } from "node:timers/promises";
import { mayBeFrozenByUs } from "../freeze-states.ts";
import {
	byLevel,
	type FileSystemAnswer,
	type HeldFileSystem,
	type HoldOptions,
	recordQuietly,
	withErrno,
} from "./hold.ts";

/** A lower layer that takes longer than this to thaw no longer holds up the layers above it. */
const thawLevelLimitMs = 250;
const thawAttempts = 4;

/**
 * Thaws all that this hold froze, lower layers first, each on its own thread. A FIFREEZE in flight can't be aborted:
 * the others are thawed meanwhile, and it is thawed when the kernel lets go of it. Answers what FITHAW said of each,
 * also of those that `thawSome` has thawed before.
 */
export async function thawAll(
	options: HoldOptions,
	inFlight: ReadonlyMap<HeldFileSystem, Promise<void>>,
): Promise<FileSystemAnswer[]> {
	const record = () => recordQuietly(options);
	const late = [...inFlight].map(([one, freezing]) => freezing.then(() => thawOne(options, one)).then(record));
	const others = options.fileSystems.filter((one) => !inFlight.has(one));
	const thawing = await thawLevels(options, others, { afterLevel: record });
	await Promise.all([...late, ...thawing]);
	recordQuietly(options);
	const atMs = options.nowMs();
	return options.fileSystems.map(
		(one) =>
			one.thawAnswer ?? { superblock: one.target.superblock, result: one.state, startedAtMs: atMs, endedAtMs: atMs },
	);
}

/**
 * Thaws these of a hold in which all is frozen; the others stay so. What is named twice, is unknown, or was thawed
 * before is passed over. One whose lower layer is still frozen hangs in FITHAW, on a thread of its own, until that one
 * is thawed: no other thaw waits for it. Each answer is recorded at once, because the hold goes on: a rescuer that
 * comes later must not thaw what somebody else has frozen since.
 */
export async function thawSome(options: HoldOptions, superblocks: readonly string[]): Promise<void> {
	const named = new Set(superblocks);
	const chosen = options.fileSystems.filter((one) => named.has(one.target.superblock));
	// The thaw of all takes over when it comes.
	const thawing = await thawLevels(options, chosen, { afterEach: () => recordQuietly(options), until: options.stop });
	await Promise.all(thawing);
}

type ThawSteps = { afterLevel?(): void; afterEach?(): void; until?: AbortSignal };

/** Begins the thaw of each, lower layers first. What it returns may still be in flight. */
async function thawLevels(
	options: HoldOptions,
	fileSystems: readonly HeldFileSystem[],
	{ afterLevel, afterEach, until }: ThawSteps,
): Promise<Promise<void>[]> {
	const thawing: Promise<void>[] = [];
	for (const level of byLevel(fileSystems, "descending")) {
		if (until?.aborted) break;
		const now = level.filter((one) => mayBeFrozenByUs(one.state)).map((one) => thawOne(options, one).then(afterEach));
		thawing.push(...now);
		if (now.length === 0) continue;
		let isOver = false;
		// While others hang, a rescuer must know what answered: somebody else may freeze that.
		for (const one of now) void one.then(() => isOver && afterLevel?.());
		await Promise.race([Promise.all(now), sleep(thawLevelLimitMs, undefined, { ref: false })]);
		isOver = true;
		afterLevel?.();
	}
	return thawing;
}

function thawOne(options: HoldOptions, one: HeldFileSystem): Promise<void> {
	one.thawing ??= thawAndTell(options, one);
	return one.thawing;
}

async function thawAndTell(options: HoldOptions, one: HeldFileSystem): Promise<void> {
	if (!mayBeFrozenByUs(one.state)) return;
	const answer = await thawUntilAnswered(options, one);
	delete one.thawing;
	one.thawAnswer = answer;
	options.onEvents([{ type: "fileSystem", ...answer }]);
}

async function thawUntilAnswered(options: HoldOptions, one: HeldFileSystem): Promise<FileSystemAnswer> {
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

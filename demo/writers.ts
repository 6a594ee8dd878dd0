import { fork } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";

export type WriterKind = "file" | "sqlite";

export type WriterHistory = {
	kind: WriterKind;
	path: string;
	/** Unix time in ms of each acknowledged commit; the index is its sequence number. */
	acknowledgedAt: readonly number[];
	/** The same on CLOCK_MONOTONIC, which all processes of a boot share. */
	monotonicMs: readonly number[];
};

export type Writer = AsyncDisposable & {
	readonly kind: WriterKind;
	readonly path: string;
	/** Ends the writer and returns what was acknowledged to it. */
	stop(): Promise<WriterHistory>;
};

/**
 * Starts a writer process on `path` and waits until it has opened its file. With `mostCommits` it begins anew after so
 * many: its history is then that of its last turn.
 */
export async function startWriter(kind: WriterKind, path: string, mostCommits?: number): Promise<Writer> {
	const words = [kind, path, ...(mostCommits === undefined ? [] : [String(mostCommits)])];
	const child = fork(join(import.meta.dirname, "writer.ts"), words, {
		stdio: ["ignore", "ignore", "inherit", "ipc"],
		// A process group of its own: the demo decides when writers end, not a signal to the whole terminal.
		detached: true,
	});
	// From the start: an exit that was missed would be waited for without end.
	const ended = new Promise<void>((resolve) => {
		child.once("close", () => resolve());
		child.once("error", () => resolve());
	});
	const messages: { type: string; acknowledgedAt?: number[]; monotonicMs?: number[] }[] = [];
	child.on("message", (message) => messages.push(message as (typeof messages)[number]));
	await Promise.race([once(child, "message"), ended]);
	if (messages.length === 0) throw new Error(`the writer on ${path} did not start`);
	let history: Promise<WriterHistory> | undefined;
	const stop = () => {
		history ??= (async () => {
			if (child.connected) child.send("stop", () => {});
			await ended;
			const last = messages.at(-1);
			if (last?.type !== "stopped") throw new Error(`the writer on ${path} ended by itself`);
			return { kind, path, acknowledgedAt: last.acknowledgedAt ?? [], monotonicMs: last.monotonicMs ?? [] };
		})();
		return history;
	};
	return {
		kind,
		path,
		stop,
		async [Symbol.asyncDispose]() {
			await stop().catch(() => {});
		},
	};
}

/** The longest time between two commits that overlaps [fromMs, toMs] of CLOCK_MONOTONIC. */
export function longestStallMs(history: Pick<WriterHistory, "monotonicMs">, fromMs: number, toMs: number): number {
	let longest = 0;
	let before: number | undefined;
	for (const at of history.monotonicMs) {
		if (before !== undefined && at >= fromMs && before <= toMs) longest = Math.max(longest, at - before);
		before = at;
	}
	return longest;
}

/** How many commits were acknowledged before the given Unix time. */
export function acknowledgedBefore(history: Pick<WriterHistory, "acknowledgedAt">, atMs: number): number {
	let count = 0;
	for (const at of history.acknowledgedAt) {
		if (at >= atMs) break;
		count += 1;
	}
	return count;
}

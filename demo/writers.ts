import { fork } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";

export type WriterKind = "file" | "sqlite";

export type WriterHistory = {
	kind: WriterKind;
	path: string;
	/** Unix time in ms of each acknowledged commit; the index is its sequence number. */
	acknowledgedAt: readonly number[];
};

export type Writer = AsyncDisposable & {
	readonly kind: WriterKind;
	readonly path: string;
	/** Ends the writer and returns what was acknowledged to it. */
	stop(): Promise<WriterHistory>;
};

/** Starts a writer process on `path` and waits until it has opened its file. */
export async function startWriter(kind: WriterKind, path: string): Promise<Writer> {
	const child = fork(join(import.meta.dirname, "writer.ts"), [kind, path], {
		stdio: ["ignore", "ignore", "inherit", "ipc"],
	});
	const messages: unknown[] = [];
	child.on("message", (message) => messages.push(message));
	await Promise.race([once(child, "message"), once(child, "exit")]);
	if (child.exitCode !== null) throw new Error(`the writer on ${path} did not start`);
	let history: Promise<WriterHistory> | undefined;
	const stop = () => {
		history ??= (async () => {
			const ended = once(child, "exit");
			if (child.connected) child.send("stop");
			await ended;
			const last = messages.at(-1) as { type: string; acknowledgedAt?: number[] };
			if (last.type !== "stopped") throw new Error(`the writer on ${path} ended by itself`);
			return { kind, path, acknowledgedAt: last.acknowledgedAt ?? [] };
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

/** The longest time between two commits of which one falls into [fromMs, toMs], Unix time. */
export function longestStallMs(history: WriterHistory, fromMs: number, toMs: number): number {
	let longest = 0;
	let before: number | undefined;
	for (const at of history.acknowledgedAt) {
		if (before !== undefined && at >= fromMs && before <= toMs) longest = Math.max(longest, at - before);
		before = at;
	}
	return longest;
}

/** How many commits were acknowledged before the given Unix time. */
export function acknowledgedBefore(history: WriterHistory, atMs: number): number {
	let count = 0;
	for (const at of history.acknowledgedAt) {
		if (at >= atMs) break;
		count += 1;
	}
	return count;
}

import { fstatSync, write } from "node:fs";
import { Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";

/** What a reader that does not read may make us keep; the rest is thrown away. */
const backlogLimitBytes = 64 * 1024;

export type QuietOutput = {
	write(text: string): void;
	/** Resolves when all is written, or after the limit. */
	end(limitMs: number): Promise<void>;
};

/**
 * An output that never waits in the caller: neither for a pipe that nobody reads, nor for a file on a frozen disk.
 * `process.stdout` waits for both.
 */
export function makeQuietOutput(fd: number): QuietOutput {
	const stats = fstatSync(fd);
	return stats.isFIFO() || stats.isSocket() ? quietPipe(fd) : quietFile(fd);
}

function quietPipe(fd: number): QuietOutput {
	const socket = new Socket({ fd, readable: false, writable: true });
	socket.on("error", () => undefined);
	return {
		write(text) {
			if (socket.writable && socket.writableLength < backlogLimitBytes) socket.write(text);
		},
		async end(limitMs) {
			const ended = new Promise<void>((resolve) => {
				if (socket.destroyed) resolve();
				socket.on("close", () => resolve());
				socket.end(() => resolve());
			});
			await Promise.race([ended, sleep(limitMs, undefined, { ref: false })]);
			socket.destroy();
		},
	};
}

/** One write at a time, on a thread of the pool: that one may wait. */
function quietFile(fd: number): QuietOutput {
	let backlog = "";
	let writing = Promise.resolve();
	let busy = false;
	function pump(): void {
		if (busy || backlog === "") return;
		const text = backlog;
		backlog = "";
		busy = true;
		writing = new Promise((resolve) => {
			write(fd, text, () => {
				busy = false;
				resolve();
				pump();
			});
		});
	}
	return {
		write(text) {
			if (backlog.length < backlogLimitBytes) backlog += text;
			pump();
		},
		async end(limitMs) {
			const limit = sleep(limitMs, "late" as const, { ref: false });
			while (busy && (await Promise.race([writing, limit])) !== "late");
		},
	};
}

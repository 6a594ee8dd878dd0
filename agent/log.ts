/**
 * The agent's log. Every line goes through the write hold: while file systems are frozen lines are kept in a bounded
 * ring in memory and in `<run>/window.log` on tmpfs, and are written to the disk after the release.
 */
import { closeSync, ftruncateSync, openSync, writeSync } from "node:fs";
import { join } from "node:path";
import winston from "winston";
import Transport from "winston-transport";
import type { LogFile } from "./log-file.ts";
import { formatLogLine, type LogLine } from "./log-format.ts";
import type { WriteHold } from "./write-hold.ts";

export type Log = winston.Logger;

export type LogOptions = {
	level: string;
	hold: WriteHold;
	file: LogFile;
	runDir: string;
	/** Once when lines begin to be lost. */
	onFault?(error: unknown): void;
};

const maxPendingBytes = 1024 * 1024;
const maxWindowBytes = 1024 * 1024;

/** Disposing writes what is still waiting, unless the disks are held. A line that cannot be written is counted, never thrown. */
export function openLog(options: LogOptions): Log & AsyncDisposable {
	const windowFd = openSync(join(options.runDir, "window.log"), "a", 0o600);
	const state = {
		pending: [] as string[],
		pendingBytes: 0,
		dropped: 0,
		writing: false,
		windowBytes: 0,
		closed: false,
		faulty: false,
	};

	function take(line: LogLine): void {
		const text = formatLogLine(line, new Date());
		if (options.hold.held) keepInWindow(text);
		if (state.pendingBytes + text.length > maxPendingBytes) {
			state.dropped += 1;
			return;
		}
		state.pending.push(text);
		state.pendingBytes += text.length;
		if (!state.writing) flush();
	}

	function keepInWindow(text: string): void {
		try {
			if (state.windowBytes > maxWindowBytes) ftruncateSync(windowFd, 0);
			state.windowBytes = state.windowBytes > maxWindowBytes ? 0 : state.windowBytes + text.length;
			if (!state.closed) writeSync(windowFd, text);
		} catch {
			// A full tmpfs: the ring in memory still has the line.
		}
	}

	/** One write of all that waits, not one for each line. */
	function flush(): void {
		state.writing = true;
		void options.hold
			.write(async () => {
				const text = state.pending.join("") + (state.dropped > 0 ? `(${state.dropped} lines were dropped)\n` : "");
				Object.assign(state, { pending: [], pendingBytes: 0, dropped: 0 });
				await options.file.append(text);
			})
			.then(() => {
				state.faulty = false;
			})
			.catch((error: unknown) => {
				state.dropped += 1;
				if (!state.faulty) options.onFault?.(error);
				state.faulty = true;
			})
			.finally(() => {
				state.writing = false;
				if (state.pending.length > 0) flush();
			});
	}

	class HeldTransport extends Transport {
		override log(line: LogLine, next: () => void): void {
			take(line);
			next();
		}
	}

	const logger = winston.createLogger({ level: options.level, transports: [new HeldTransport()], exitOnError: false });
	return Object.assign(logger, {
		async [Symbol.asyncDispose]() {
			while (!options.hold.held && (state.writing || state.pending.length > 0)) await options.hold.drained();
			state.closed = true;
			closeSync(windowFd);
			await options.file[Symbol.asyncDispose]();
		},
	});
}

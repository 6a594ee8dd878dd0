import { closeSync, openSync, writeSync } from "node:fs";
import { join } from "node:path";

/**
 * Evidence of the window, one line of JSON for each event, on tmpfs: a killed process loses none of it, and no line
 * ever waits for a disk. Opened before the freeze.
 */
export type WindowLog = Disposable & { write(event: Record<string, unknown>): void };

export function openWindowLog(runFolder: string, jobId: string): WindowLog {
	let fd: number | undefined = openSync(join(runFolder, `window-${jobId}.jsonl`), "a", 0o600);
	return {
		write(event) {
			if (fd === undefined) return;
			try {
				writeSync(fd, `${JSON.stringify(event)}\n`);
			} catch {
				// A full tmpfs loses evidence, and must not lose the thaw.
			}
		},
		[Symbol.dispose]() {
			if (fd !== undefined) closeSync(fd);
			fd = undefined;
		},
	};
}

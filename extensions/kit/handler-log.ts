import { appendFile, rename, stat } from "node:fs/promises";
import { join } from "node:path";

export type HandlerLog = { write(line: string): Promise<void> };

/** Then it is renamed to `.1`: with the one before, twice this is kept. */
const maxLogBytes = 5 * 1024 * 1024;

/** A log file in the handler's `logFolder`. A log that cannot be written (a full disk, say) stops nothing. */
export function openHandlerLog(logFolder: string, name: string, now: () => Date): HandlerLog {
	const path = join(logFolder, `${name}.log`);
	let written: Promise<void> = Promise.resolve();
	const write = async (line: string) => {
		const { size } = await stat(path).catch(() => ({ size: 0 }));
		if (size > maxLogBytes) await rename(path, `${path}.1`);
		await appendFile(path, `${now().toISOString()} ${line.replaceAll(/\r?\n/g, " | ")}\n`, { mode: 0o600 });
	};
	return {
		write(line) {
			written = written.then(() => write(line)).catch(() => undefined);
			return written;
		},
	};
}

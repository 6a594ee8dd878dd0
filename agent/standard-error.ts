import { write } from "node:fs";

/**
 * Writes to stderr from a thread of the pool, so that a pipe that nobody reads does not stop the agent: Node's own
 * `process.stderr` waits for pipes. A fault is ignored, there is nobody to tell.
 */
export function writeStandardError(text: string): Promise<void> {
	return new Promise((resolve) => {
		write(2, text, () => resolve());
	});
}

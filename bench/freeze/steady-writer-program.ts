/** One writer, as a thread of its own: 64 KiB every 4 ms into the page cache, over and over the same 32 MiB, no fsync. */
import { openSync, writeSync } from "node:fs";
import { workerData } from "node:worker_threads";

const { path, stop } = workerData as { path: string; stop: SharedArrayBuffer };
const word = new Int32Array(stop);
const block = Buffer.alloc(64 * 1024, "w");
const blocks = 512;
const pauseMs = 4;
const file = openSync(path, "w", 0o600);
for (let count = 0; Atomics.wait(word, 0, 0, pauseMs) === "timed-out"; count += 1) {
	writeSync(file, block, 0, block.length, (count % blocks) * block.length);
}

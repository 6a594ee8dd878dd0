/**
 * One writer, as a thread of its own: appends 4 KiB and waits for fdatasync, over and over, and keeps when each write
 * was done. Its file begins anew after 4 MiB, so that it never fills the disk.
 */
import { fdatasyncSync, ftruncateSync, openSync, writeSync } from "node:fs";
import { workerData } from "node:worker_threads";
import { noteDone, type ProbeSetup, probeSlots } from "./probe-samples.ts";

const setup = workerData as ProbeSetup;
const word = new Int32Array(setup.control);
const never = new Int32Array(new SharedArrayBuffer(4));
const block = Buffer.alloc(4096, "x");
const maxBlocks = 1024;
// performance.now() counts from the start of this thread; all else of the measurement is CLOCK_MONOTONIC.
const originMs = Number(process.hrtime.bigint()) / 1e6 - performance.now();
const file = openSync(setup.path, "a", 0o600);
for (let count = 0; Atomics.load(word, probeSlots.stop) === 0; count += 1) {
	writeSync(file, block);
	fdatasyncSync(file);
	noteDone(setup, count, performance.now() + originMs);
	if (count % maxBlocks === maxBlocks - 1) ftruncateSync(file, 0);
	Atomics.wait(never, 0, 0, setup.pauseMs);
}

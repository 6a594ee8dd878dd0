/** The thread that parses. Nothing that happens in it, a hang and the end of its memory included, ends the test. */
import { readlinkSync } from "node:fs";
import { setPriority } from "node:os";
import { parentPort, workerData } from "node:worker_threads";
import type { WorkerAnswer, WorkerOrder, WorkerSetup } from "./fuzz-worker.ts";
import { measureCase, runSlice } from "./run-slice.ts";
import { makeTargetsOf } from "./target-table.ts";
import { withBuffers } from "./with-buffers.ts";

const { beats, group, samplesFolder } = workerData as WorkerSetup;
const port = parentPort;
if (port === null) throw new Error("slice-worker.ts is the file of a worker thread");
// Of this thread alone: tests with deadlines run beside it.
setPriority(3);
const began = new BigInt64Array(beats, 0, 1);
const place = new Int32Array(beats, 8, 2);
const targets = await makeTargetsOf(group, samplesFolder);
port.postMessage({ type: "ready", thread: readlinkSync("/proc/thread-self") } satisfies WorkerAnswer);

port.on("message", async (order: WorkerOrder) => {
	const target = targets.find(({ name }) => name === order.target);
	if (target === undefined) throw new Error(`there is no target ${order.target}`);
	const beat = (seed: number, index: number) => {
		Atomics.store(began, 0, process.hrtime.bigint());
		Atomics.store(place, 0, seed);
		Atomics.store(place, 1, index);
	};
	if (order.type === "slice") {
		const result = await runSlice(target, order.slice, beat);
		port.postMessage({ type: "slice", result } satisfies WorkerAnswer);
		return;
	}
	beat(0, 0);
	const failure = await measureCase(target, withBuffers(order.input)).then(
		() => undefined,
		(error: unknown) => (error instanceof Error ? (error.stack ?? error.message) : String(error)),
	);
	port.postMessage({ type: "case", ...(failure === undefined ? {} : { failure }) } satisfies WorkerAnswer);
});

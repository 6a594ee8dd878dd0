/** The process that parses. Nothing that happens in it, a hang and the end of its memory included, ends the test. */
import { openSync, writeSync } from "node:fs";
import { setPriority } from "node:os";
import type { WorkerAnswer, WorkerOrder } from "./fuzz-worker.ts";
import { measureCase, runSlice } from "./run-slice.ts";
import { makeTargetsOf } from "./target-table.ts";
import { withBuffers } from "./with-buffers.ts";

const [group = "", samplesFolder = "", beatPath = ""] = process.argv.slice(2);
// Tests with deadlines run beside it.
setPriority(3);
const beatFile = openSync(beatPath, "r+");
const beats = Buffer.alloc(16);
const targets = await makeTargetsOf(group as Parameters<typeof makeTargetsOf>[0], samplesFolder);
answer({ type: "ready" });

process.on("message", async (order: WorkerOrder) => {
	const target = targets.find(({ name }) => name === order.target);
	if (target === undefined) throw new Error(`there is no target ${order.target}`);
	if (order.type === "slice") {
		answer({ type: "slice", result: await runSlice(target, order.slice, beat) });
		return;
	}
	beat(0, 0);
	const failure = await measureCase(target, withBuffers(order.input)).then(
		() => undefined,
		(error: unknown) => (error instanceof Error ? (error.stack ?? error.message) : String(error)),
	);
	answer({ type: "case", ...(failure === undefined ? {} : { failure }) });
});
process.on("disconnect", () => process.exit());

/** On tmpfs, where whoever watches finds it whatever becomes of this process. */
function beat(seed: number, index: number): void {
	beats.writeBigUInt64LE(beats.readBigUInt64LE(0) + 1n, 0);
	beats.writeInt32LE(seed, 8);
	beats.writeInt32LE(index, 12);
	writeSync(beatFile, beats, 0, beats.length, 0);
}

function answer(what: WorkerAnswer): void {
	process.send?.(what);
}

import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { Worker } from "node:worker_threads";
import * as fc from "fast-check";
import type { FuzzTarget, TargetGroup } from "./fuzz-target.ts";
import { describeFailure, type Slice, type SliceFailure, type SliceResult } from "./run-slice.ts";

export type WorkerSetup = {
	/** Nanoseconds of the monotonic clock when the last case began; the seed of its piece, and its place in it. */
	readonly beats: SharedArrayBuffer;
	readonly group: TargetGroup;
	readonly samplesFolder: string;
};
export type WorkerOrder = { readonly target: string } & (
	| { readonly type: "slice"; readonly slice: Slice }
	| { readonly type: "case"; readonly input: unknown }
);
export type WorkerAnswer =
	/** `PID/task/TID` in /proc. */
	| { readonly type: "ready"; readonly thread: string }
	| { readonly type: "slice"; readonly result: SliceResult }
	| { readonly type: "case"; readonly failure?: string };

/** No answer: how the thread ended, or that it had to be ended. */
type Loss = { readonly type: "lost"; readonly how: string };

/** Of the processor: a case takes milliseconds, however busy the machine is with other things. */
const hangCpuMs = 3_000;
/** By the clock: of one that waits for what never comes. */
const usualHangLimitMs = 30_000;
/** Of one that is known to hang. */
const mostShrinkHangMs = 4_000;
/** Clock ticks of /proc/PID/stat. */
const tickMs = 10;
const usualShrinkLimitMs = 60_000;
const startLimitMs = 60_000;
const lookEveryMs = 50;
/** The stack is about that of a main thread, where the product parses. */
const resourceLimits = { maxOldGenerationSizeMb: 256, maxYoungGenerationSizeMb: 64, stackSizeMb: 1 };

export type FuzzWorker = AsyncDisposable & {
	/** Resolves when its targets are loaded: what it takes is not their time. */
	start(): Promise<void>;
	run(target: FuzzTarget, slice: Slice): Promise<SliceResult>;
	/** One case, and the smallest one that fails alike. Undefined: nothing fails. */
	replay(target: FuzzTarget, at: { seed: number; path: string }): Promise<SliceFailure | undefined>;
};

/** Runs the targets of a group in a thread, and a new thread whenever one was lost. */
export function makeFuzzWorker({
	hangLimitMs = usualHangLimitMs,
	shrinkLimitMs = usualShrinkLimitMs,
	...given
}: {
	readonly group: TargetGroup;
	readonly samplesFolder: string;
	readonly hangLimitMs?: number;
	readonly shrinkLimitMs?: number;
}): FuzzWorker {
	const beats = new SharedArrayBuffer(16);
	const began = new BigInt64Array(beats, 0, 1);
	const place = new Int32Array(beats, 8, 2);
	const state = { worker: undefined as Worker | undefined, thread: undefined as string | undefined };

	async function started(): Promise<Worker> {
		if (state.worker !== undefined) return state.worker;
		const workerData: WorkerSetup = { beats, ...given };
		const worker = new Worker(new URL("./slice-worker.ts", import.meta.url), { workerData, resourceLimits });
		Atomics.store(began, 0, process.hrtime.bigint());
		const answer = await nextAnswer(worker, startLimitMs);
		if (answer.type !== "ready") {
			await worker.terminate();
			throw new Error(
				`the thread of ${given.group} did not start: ${answer.type === "lost" ? answer.how : answer.type}`,
			);
		}
		state.worker = worker;
		state.thread = answer.thread;
		return worker;
	}

	async function nextAnswer(worker: Worker, limitMs: number): Promise<WorkerAnswer | Loss> {
		const answered = Promise.withResolvers<WorkerAnswer | Loss>();
		const lost = (how: string) => answered.resolve({ type: "lost", how });
		const onMessage = (answer: WorkerAnswer) => answered.resolve(answer);
		const onError = (error: Error) => lost(error.stack ?? error.message);
		const onExit = () => lost("the thread ended");
		worker.on("message", onMessage).on("error", onError).on("exit", onExit);
		const seen = { began: 0n, cpuMs: 0 };
		const look = setInterval(() => {
			const now = Atomics.load(began, 0);
			const cpuMs = state.thread === undefined ? 0 : threadCpuMs(state.thread);
			if (now !== seen.began) Object.assign(seen, { began: now, cpuMs });
			if (cpuMs - seen.cpuMs > hangCpuMs) lost(`one case took more than ${hangCpuMs} ms of the processor`);
			if (Number(process.hrtime.bigint() - now) / 1e6 > limitMs) lost(`one case took more than ${limitMs} ms`);
		}, lookEveryMs);
		try {
			return await answered.promise;
		} finally {
			clearInterval(look);
			worker.off("message", onMessage).off("error", onError).off("exit", onExit);
		}
	}

	async function ask(order: WorkerOrder, limitMs: number): Promise<WorkerAnswer | Loss> {
		const worker = await started();
		Atomics.store(began, 0, process.hrtime.bigint());
		worker.postMessage(order);
		const answer = await nextAnswer(worker, limitMs);
		if (answer.type === "lost") await stop();
		return answer;
	}

	async function stop(): Promise<void> {
		const { worker } = state;
		Object.assign(state, { worker: undefined, thread: undefined });
		// What an ended thread still says is not heard.
		worker?.on("error", () => {});
		await worker?.terminate();
	}

	async function replay(target: FuzzTarget, at: { seed: number; path: string }): Promise<SliceFailure | undefined> {
		let endMs = Number.POSITIVE_INFINITY;
		const property = fc.asyncProperty(target.inputs, async (input) => {
			// Enough was tried: the smallest until now it is.
			if (performance.now() > endMs) return;
			const answer = await ask({ type: "case", target: target.name, input }, Math.min(hangLimitMs, mostShrinkHangMs));
			endMs = Math.min(endMs, performance.now() + shrinkLimitMs);
			if (answer.type === "lost") throw new Error(answer.how);
			if (answer.type === "case" && answer.failure !== undefined) throw new Error(answer.failure);
		});
		const run = await fc.check(property, { ...at, numRuns: 1 });
		return run.failed && run.counterexample !== null ? describeFailure(run) : undefined;
	}

	return {
		replay,
		start: async () => void (await started()),
		async run(target, slice) {
			const answer = await ask({ type: "slice", target: target.name, slice }, hangLimitMs);
			if (answer.type === "slice") return answer.result;
			if (answer.type !== "lost") throw new Error(`an answer to another order: ${answer.type}`);
			const at = { seed: Atomics.load(place, 0), path: String(Atomics.load(place, 1)) };
			const failure = await replay(target, at);
			return {
				cases: 0,
				accepted: 0,
				slowestCpuMs: Number.NaN,
				largestGrowthBytes: Number.NaN,
				failure: failure ?? { what: `${answer.how} (alone it is well)`, input: "?", ...at },
			};
		},
		async [Symbol.asyncDispose]() {
			await stop();
			await sleep(0);
		},
	};
}

/** 0 when it has ended. */
function threadCpuMs(thread: string): number {
	try {
		const text = readFileSync(`/proc/${thread}/stat`, "latin1");
		const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
		return (Number(fields[11]) + Number(fields[12])) * tickMs;
	} catch {
		return 0;
	}
}

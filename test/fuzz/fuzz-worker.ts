import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import * as fc from "fast-check";
import type { FuzzTarget, TargetGroup } from "./fuzz-target.ts";
import { describeFailure, type Slice, type SliceFailure, type SliceResult } from "./run-slice.ts";

export type WorkerOrder = { readonly target: string } & (
	| { readonly type: "slice"; readonly slice: Slice }
	| { readonly type: "case"; readonly input: unknown }
);
export type WorkerAnswer =
	| { readonly type: "ready" }
	| { readonly type: "slice"; readonly result: SliceResult }
	| { readonly type: "case"; readonly failure?: string };

/** No answer: how the process ended, or why it had to be ended. */
type Loss = { readonly type: "lost"; readonly how: string };

/** Of the processor: a case takes milliseconds, however busy the machine is with other things. */
const hangCpuMs = 4_000;
/** By the clock: of one that waits for what never comes. */
const usualHangLimitMs = 30_000;
/** Of one that is known to hang. */
const mostShrinkHangMs = 4_000;
const usualShrinkLimitMs = 60_000;
const startLimitMs = 90_000;
const lookEveryMs = 50;
const heapMiB = 256;
const stderrKept = 4_000;
/** Clock ticks of /proc/PID/stat. */
const tickMs = 10;

export type FuzzWorker = AsyncDisposable & {
	/** Resolves when its targets are loaded: what it takes is not their time. */
	start(): Promise<void>;
	run(target: FuzzTarget, slice: Slice): Promise<SliceResult>;
	/** One case, and the smallest one that fails alike. Undefined: nothing fails. */
	replay(target: FuzzTarget, at: { seed: number; path: string }): Promise<SliceFailure | undefined>;
};

type Running = { readonly child: ChildProcess; stderr: string };

/**
 * Runs the targets of a group in a process, and a new one whenever one was lost. No thread: one that hangs in the wrong
 * place cannot be ended.
 */
export function makeFuzzWorker({
	group,
	samplesFolder,
	hangLimitMs = usualHangLimitMs,
	shrinkLimitMs = usualShrinkLimitMs,
}: {
	readonly group: TargetGroup;
	readonly samplesFolder: string;
	readonly hangLimitMs?: number;
	readonly shrinkLimitMs?: number;
}): FuzzWorker {
	const beatPath = join(mkdtempSync(join(samplesFolder, "beats-")), "beat");
	writeFileSync(beatPath, Buffer.alloc(16));
	const state = { running: undefined as Running | undefined };

	async function started(): Promise<Running> {
		if (state.running !== undefined) return state.running;
		const child = fork(new URL("./slice-program.ts", import.meta.url), [group, samplesFolder, beatPath], {
			serialization: "advanced",
			execArgv: [`--max-old-space-size=${heapMiB}`],
			stdio: ["ignore", "ignore", "pipe", "ipc"],
		});
		const running: Running = { child, stderr: "" };
		child.stderr?.setEncoding("utf8").on("data", (text: string) => {
			running.stderr = (running.stderr + text).slice(0, stderrKept);
		});
		state.running = running;
		const answer = await nextAnswer(running, { clockMs: startLimitMs, cpuMs: startLimitMs });
		if (answer.type === "ready") return running;
		await stop();
		throw new Error(`the process of ${group} did not start: ${answer.type === "lost" ? answer.how : answer.type}`);
	}

	async function nextAnswer(
		running: Running,
		limits: { readonly clockMs: number; readonly cpuMs: number },
	): Promise<WorkerAnswer | Loss> {
		const { child } = running;
		const answered = Promise.withResolvers<WorkerAnswer | Loss>();
		const lost = (how: string) => answered.resolve({ type: "lost", how });
		const onMessage = (answer: WorkerAnswer) => answered.resolve(answer);
		const onClose = (status: number | null, signal: string | null) =>
			lost(`the process ended with ${signal ?? `status ${status}`}: ${running.stderr}`);
		child.on("message", onMessage).on("close", onClose);
		const seen = { beat: "", atMs: 0, cpuMs: 0 };
		const look = setInterval(() => {
			const beat = readFileSync(beatPath, "latin1");
			const [atMs, cpuMs] = [performance.now(), cpuMsOf(child.pid)];
			if (beat !== seen.beat) Object.assign(seen, { beat, atMs, cpuMs });
			if (cpuMs - seen.cpuMs > limits.cpuMs) lost(`one case took more than ${limits.cpuMs} ms of the processor`);
			if (atMs - seen.atMs > limits.clockMs) lost(`one case took more than ${limits.clockMs} ms`);
		}, lookEveryMs);
		try {
			return await answered.promise;
		} finally {
			clearInterval(look);
			child.off("message", onMessage).off("close", onClose);
		}
	}

	async function ask(order: WorkerOrder, clockMs: number): Promise<WorkerAnswer | Loss> {
		const running = await started();
		running.child.send(order);
		const answer = await nextAnswer(running, { clockMs, cpuMs: hangCpuMs });
		if (answer.type === "lost") await stop();
		return answer;
	}

	async function stop(): Promise<void> {
		const { child } = state.running ?? {};
		state.running = undefined;
		if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
		const ended = once(child, "exit");
		child.kill("SIGKILL");
		await ended;
	}

	async function replay(target: FuzzTarget, at: { seed: number; path: string }): Promise<SliceFailure | undefined> {
		let endMs = Number.POSITIVE_INFINITY;
		const property = fc.asyncProperty(target.inputs, async (input) => {
			// Enough was tried: the smallest until now it is.
			if (performance.now() > endMs) return;
			const order = { type: "case", target: target.name, input } as const;
			const answer = await ask(order, Math.min(hangLimitMs, mostShrinkHangMs));
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
			const beat = readFileSync(beatPath);
			const at = { seed: beat.readInt32LE(8), path: String(beat.readInt32LE(12)) };
			const failure = await replay(target, at);
			return {
				cases: 0,
				accepted: 0,
				slowestCpuMs: Number.NaN,
				largestGrowthBytes: Number.NaN,
				failure: failure ?? { what: `${answer.how} (alone it is well)`, input: "?", ...at },
			};
		},
		[Symbol.asyncDispose]: stop,
	};
}

/** Of all its threads; 0 when it has ended. */
function cpuMsOf(pid: number | undefined): number {
	try {
		const text = readFileSync(`/proc/${pid}/stat`, "latin1");
		const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
		return (Number(fields[11]) + Number(fields[12])) * tickMs;
	} catch {
		return 0;
	}
}

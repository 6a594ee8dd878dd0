import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { Worker } from "node:worker_threads";
import { createProbeSetup, type ProbeSetup, probeSlots, readDoneAt } from "./probe-samples.ts";

/** 32 writers that never pause keep two cores busy, and then feel each other for tens of ms. */
const pauseMs = 2;
/** For a writer to go on after the thaw; then something is still frozen. */
const resumeLimitMs = 10_000;

export type Probes = AsyncDisposable & {
	/**
	 * Of each probe, when its writes were done since `sinceMs`, at least until `untilMs`. Waits for it.
	 * @throws when one does not go on.
	 */
	read(sinceMs: number, untilMs: number, signal: AbortSignal): Promise<number[][]>;
};

/** One probe in each folder. Everything is thawed before they are disposed. */
export async function startProbes(folders: readonly string[], signal: AbortSignal): Promise<Probes> {
	await using undo = new AsyncDisposableStack();
	const setups = folders.map((folder) => createProbeSetup(join(folder, "probe"), pauseMs));
	for (const setup of setups) undo.defer(startProbe(setup));
	const probes = { read };
	await read(0, 0, signal);
	const owned = undo.move();
	return { ...probes, [Symbol.asyncDispose]: () => owned.disposeAsync() };

	async function read(sinceMs: number, untilMs: number, ended: AbortSignal): Promise<number[][]> {
		const limit = AbortSignal.timeout(resumeLimitMs);
		for (;;) {
			const found = setups.map((setup) => readDoneAt(setup, sinceMs));
			const late = found.findIndex((doneAt) => (doneAt.at(-1) ?? Number.NEGATIVE_INFINITY) < untilMs);
			if (late < 0) return found;
			if (limit.aborted) throw new Error(`${folders[late]} could not be written for ${resumeLimitMs} ms`);
			await sleep(5, undefined, { signal: ended });
		}
	}
}

function startProbe(setup: ProbeSetup): () => Promise<void> {
	const worker = new Worker(new URL("probe-program.ts", import.meta.url), {
		workerData: setup,
		resourceLimits: { maxOldGenerationSizeMb: 32, maxYoungGenerationSizeMb: 4 },
	});
	const ended = new Promise<void>((resolve) => worker.once("exit", () => resolve()));
	let fault: Error | undefined;
	worker.on("error", (error) => {
		fault = error;
	});
	return async () => {
		Atomics.store(new Int32Array(setup.control), probeSlots.stop, 1);
		await ended;
		if (fault !== undefined) throw fault;
	};
}

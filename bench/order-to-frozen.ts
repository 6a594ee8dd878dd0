import { setTimeout as sleep } from "node:timers/promises";
import { Worker } from "node:worker_threads";
import { connectLocalAgent } from "../command-line/local-agent.ts";
import { orderSchema } from "../contracts/order.ts";
import { type BenchAgent, type Form, startBenchAgent } from "./bench-agent.ts";
import { round, type Spread, spreadOf } from "./figures.ts";

export type OrderToFrozen = {
	form: Form;
	load: "idle" | "busy";
	rounds: number;
	orderToFrozenMs: Spread;
	frozenStallMs: Spread;
};

/** Freezing again within the kernel's grace period is cheaper than a real first freeze: leave a pause. */
const pauseMs = 700;

/**
 * From the local call that carries the order until the word that everything is frozen: one clean ext4, no scripts.
 * `frozenStallMs` is the agent's own figure, first freeze call to last thaw answer, with a hold of 0 ms.
 */
export async function measureOrderToFrozen(rounds: number, signal: AbortSignal): Promise<OrderToFrozen[]> {
	const results: OrderToFrozen[] = [];
	for (const form of ["bundled", "unbundled"] as const) {
		await using agent = await startBenchAgent({ form, signal });
		await oneRound(agent, signal);
		for (const load of ["idle", "busy"] as const) {
			using _load = load === "busy" ? burnBothCores() : undefined;
			const orderToFrozen: number[] = [];
			const stalls: number[] = [];
			for (let round = 0; round < rounds; round += 1) {
				await sleep(pauseMs, undefined, { signal });
				const { orderToFrozenMs, frozenMs } = await oneRound(agent, signal);
				orderToFrozen.push(orderToFrozenMs);
				stalls.push(frozenMs);
			}
			results.push({ form, load, rounds, orderToFrozenMs: spreadOf(orderToFrozen), frozenStallMs: spreadOf(stalls) });
		}
	}
	return results;
}

async function oneRound(
	agent: BenchAgent,
	signal: AbortSignal,
): Promise<{ orderToFrozenMs: number; frozenMs: number }> {
	const order = orderSchema.parse({
		jobId: `bench-${process.hrtime.bigint()}`,
		level: "file-system",
		acceptLevel: "file-system",
		disks: { include: [agent.disk] },
		snapshot: "unknown",
	});
	const jobId = order.jobId;
	const reported = Promise.withResolvers<{
		window?: { freezeMs: number; heldMs: number; thawMs: number };
		error?: unknown;
	}>();
	let frozenAt = 0;
	await using client = await connectLocalAgent(agent.runFolder, signal, {
		onNotification: (_name, params) => {
			const event = params as { type: string; report?: Parameters<typeof reported.resolve>[0] };
			if (event.type === "prepared")
				void client.call("job.command", { command: { type: "freeze", jobId } }, { limitMs: 5_000 });
			if (event.type === "frozen") {
				frozenAt = performance.now();
				void client.call("job.command", { command: { type: "release", jobId } }, { limitMs: 5_000 });
			}
			if (event.type === "report" && event.report) reported.resolve(event.report);
		},
		onClosed: () => reported.reject(new Error("the agent went away")),
	});
	const orderedAt = performance.now();
	await client.call("job.order", { order }, { limitMs: 10_000 });
	const report = await reported.promise;
	if (report.window === undefined) throw new Error(`the job did not freeze: ${JSON.stringify(report.error)}`);
	const { freezeMs, heldMs, thawMs } = report.window;
	return { orderToFrozenMs: round(frozenAt - orderedAt), frozenMs: freezeMs + heldMs + thawMs };
}

/** A busy loop for each of two cores, in threads of this process. */
function burnBothCores(): Disposable {
	const workers = [1, 2].map(() => new Worker("for (;;);", { eval: true }));
	return {
		[Symbol.dispose]() {
			for (const worker of workers) void worker.terminate();
		},
	};
}

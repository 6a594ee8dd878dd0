import { setTimeout as sleep } from "node:timers/promises";
import { connectController } from "../controller/client.ts";
import type { BenchAgent } from "./bench-agent.ts";

export type ControllerSnapshots = Disposable & {
	/** One recovery point. */
	take(): Promise<{
		/** Order sent to `frozen` received, by the controller's clock. */
		orderToFrozenMs: number;
		/** First freeze call to last thaw answer, the copy of the image included. */
		frozenStallMs: number;
	}>;
};

const connectLimitMs = 20_000;

/** Snapshots through the agent's controller: an operator's call, the mTLS link over loopback, a copy of the image. */
export async function openControllerSnapshots(
	{ controller }: BenchAgent,
	{ disk, image, signal }: { disk: string; image: string; signal: AbortSignal },
): Promise<ControllerSnapshots> {
	if (controller === undefined) throw new Error("the agent has no controller");
	using undo = new DisposableStack();
	const { access, agentId } = controller;
	const client = undo.use(connectController(access));
	const limit = AbortSignal.timeout(connectLimitMs);
	while (!(await client.readAgent(agentId)).connected) {
		if (limit.aborted) throw new Error(`the agent did not connect in ${connectLimitMs} ms`);
		await sleep(100, undefined, { signal });
	}
	await client.mapDisks(agentId, [{ name: disk, image }]);
	const owned = undo.move();
	return {
		async take() {
			const { jobId } = await client.orderSnapshot(agentId, { level: "file-system", disks: { include: [disk] } });
			const { orderToFrozenMs, report, error } = await client.waitForJob(jobId, { signal });
			if (orderToFrozenMs === undefined || report?.window === undefined || report.achieved !== "file-system") {
				throw new Error(`the job did not end well: ${JSON.stringify(error ?? report?.because)}`);
			}
			const { freezeMs, heldMs, thawMs } = report.window;
			return { orderToFrozenMs, frozenStallMs: freezeMs + heldMs + thawMs };
		},
		[Symbol.dispose]: () => owned.dispose(),
	};
}

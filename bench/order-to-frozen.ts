import { basename } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { Worker } from "node:worker_threads";
import { makeLoopFileSystem } from "../test/fixtures/loop-file-system.ts";
import { type Form, startBenchAgent } from "./bench-agent.ts";
import { type Spread, spreadOf } from "./figures.ts";
import { holdOnce } from "./hold-once.ts";
import { openControllerSnapshots } from "./hold-through-controller.ts";
import { makeBenchFolders } from "./scratch-folders.ts";

export type OrderToFrozen = {
	form: Form;
	through: "local call" | "controller";
	load: "idle" | "busy";
	rounds: number;
	/** Of the asker: the order sent until `frozen` is received. */
	orderToFrozenMs: Spread;
	/** The agent's own figure, first freeze call to last thaw answer; through the controller with the copy of the image. */
	frozenStallMs: Spread;
};

/** Freezing again within the kernel's grace period is cheaper than a real first freeze: leave a pause. */
const pauseMs = 700;
const limitMs = 20 * 60_000;

type Round = () => Promise<{ orderToFrozenMs: number; frozenStallMs: number }>;

/** One clean ext4 of 128 MiB, no scripts; by the local call with a hold of 0 ms, and through a controller on the loopback. */
export async function measureOrderToFrozen(rounds: number, signal: AbortSignal): Promise<OrderToFrozen[]> {
	const results: OrderToFrozen[] = [];
	for (const form of ["bundled", "unbundled"] as const) {
		const linked = form === "bundled";
		await using folders = await makeBenchFolders(limitMs);
		await using disk = await makeLoopFileSystem({ dir: folders.images, fsType: "ext4", sizeMiB: 128, name: "clean" });
		await using agent = await startBenchAgent({ form, linked, folders, mountPoints: [disk.mountPoint], signal });
		const name = basename(disk.device);
		const local: Round = async () => {
			const { orderedAtMs, frozenAtMs, report } = await holdOnce({ runFolder: agent.runFolder, disks: [name], signal });
			const { freezeMs, heldMs, thawMs } = report.window;
			return { orderToFrozenMs: frozenAtMs - orderedAtMs, frozenStallMs: freezeMs + heldMs + thawMs };
		};
		results.push(...(await measureWay(local, { form, through: "local call", rounds }, signal)));
		if (!linked) continue;
		using snapshots = await openControllerSnapshots(agent, { disk: name, image: disk.imagePath, signal });
		results.push(...(await measureWay(snapshots.take, { form, through: "controller", rounds }, signal)));
	}
	return results;
}

async function measureWay(
	take: Round,
	what: Pick<OrderToFrozen, "form" | "through" | "rounds">,
	signal: AbortSignal,
): Promise<OrderToFrozen[]> {
	const results: OrderToFrozen[] = [];
	await take();
	for (const load of ["idle", "busy"] as const) {
		using _load = load === "busy" ? burnBothCores() : undefined;
		const taken: Awaited<ReturnType<Round>>[] = [];
		for (let count = 0; count < what.rounds; count += 1) {
			await sleep(pauseMs, undefined, { signal });
			taken.push(await take());
		}
		const spread = (key: keyof Awaited<ReturnType<Round>>) => spreadOf(taken.map((one) => one[key]));
		const { form, through, rounds } = what;
		results.push({
			form,
			through,
			load,
			rounds,
			orderToFrozenMs: spread("orderToFrozenMs"),
			frozenStallMs: spread("frozenStallMs"),
		});
	}
	return results;
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

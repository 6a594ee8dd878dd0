import { mkdtemp, rm } from "node:fs/promises";
import { startGuard } from "../test/fixtures/guard.ts";

/** Where the images of a measurement lie: in memory, where a flush costs no disk; or on the machine's own disk. */
export type ImagesOn = "memory" | "disk";

export type BenchFolders = AsyncDisposable & {
	/** Of root alone, on a disk: programs, configuration, state. */
	readonly base: string;
	/** On tmpfs: the agent's run folder. */
	readonly run: string;
	/** Images and mount points. The guard watches it: whatever is mounted below it is thawed when this process dies. */
	readonly images: string;
};

export async function makeBenchFolders(limitMs: number, imagesOn: ImagesOn = "disk"): Promise<BenchFolders> {
	await using undo = new AsyncDisposableStack();
	const make = async (prefix: string): Promise<string> => {
		const folder = await mkdtemp(prefix);
		undo.defer(() => rm(folder, { recursive: true, force: true }));
		return folder;
	};
	const base = await make("/var/lib/stillpoint-bench-");
	const run = await make("/dev/shm/stillpoint-bench-run-");
	const images = await make(imagesOn === "memory" ? "/dev/shm/stillpoint-bench-" : "/var/lib/stillpoint-bench-images-");
	undo.use(startGuard({ dir: images, limitMs, remove: [base, run, images] }));
	const owned = undo.move();
	return { base, run, images, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

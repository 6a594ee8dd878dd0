/** The file systems of a case, mounted, with its writers; and what makes them dirty. */
import { open, rm } from "node:fs/promises";
import { join } from "node:path";
import { Worker } from "node:worker_threads";
import { type LoopFileSystem, makeLoopFileSystem, thaw } from "../../test/fixtures/loop-file-system.ts";
import { type FreezeCase, mountName } from "./cases.ts";
import { type Probes, startProbes } from "./probes.ts";

export type CaseMachine = AsyncDisposable & {
	/** In mount order. */
	readonly fileSystems: readonly LoopFileSystem[];
	readonly probes: Probes;
	/** Before each turn. */
	makeDirty(): Promise<void>;
};

/** @param folder With a guard on it. */
export async function makeCaseMachine(wanted: FreezeCase, folder: string, signal: AbortSignal): Promise<CaseMachine> {
	await using undo = new AsyncDisposableStack();
	const fileSystems: LoopFileSystem[] = [];
	for (const [index, spec] of wanted.fileSystems.entries()) {
		const below = wanted.stacked === true ? fileSystems.at(-1)?.mountPoint : undefined;
		// Whose tables ext4 would else fill in the background, for minutes.
		const mkfsArgs = spec.fsType === "ext4" ? ["-E", "lazy_itable_init=0,lazy_journal_init=0"] : [];
		const options = { ...spec, mkfsArgs, dir: below ?? folder, name: mountName(index) };
		fileSystems.push(undo.use(await makeLoopFileSystem(options)));
		signal.throwIfAborted();
	}
	const mountPoints = fileSystems.map(({ mountPoint }) => mountPoint);
	if (wanted.steadyWriters === true) for (const point of mountPoints) undo.defer(startSteadyWriter(point));
	const probes = undo.use(await startProbes(mountPoints, signal));
	// What a turn that failed left frozen would keep the writers from ending. Lower layers first.
	undo.defer(async () => {
		for (const point of mountPoints) while (await thaw(point));
	});
	const owned = undo.move();
	return {
		fileSystems,
		probes,
		async makeDirty() {
			const { dirtyMiB } = wanted;
			if (dirtyMiB !== undefined) await Promise.all(mountPoints.map((point) => writeDirty(point, dirtyMiB)));
		},
		[Symbol.asyncDispose]: () => owned.disposeAsync(),
	};
}

/** A new file: ext4 would write out at once what replaces a file that was cut to nothing. */
async function writeDirty(mountPoint: string, dirtyMiB: number): Promise<void> {
	const path = join(mountPoint, "dirty");
	await rm(path, { force: true });
	await using file = await open(path, "wx", 0o600);
	const block = Buffer.alloc(1024 * 1024, "d");
	for (let count = 0; count < dirtyMiB; count += 1) await file.write(block);
}

function startSteadyWriter(mountPoint: string): () => Promise<void> {
	const stop = new SharedArrayBuffer(4);
	const worker = new Worker(new URL("steady-writer-program.ts", import.meta.url), {
		workerData: { path: join(mountPoint, "steady"), stop },
	});
	const ended = new Promise<void>((resolve) => worker.once("exit", () => resolve()));
	let fault: Error | undefined;
	worker.on("error", (error) => {
		fault = error;
	});
	return async () => {
		const word = new Int32Array(stop);
		Atomics.store(word, 0, 1);
		Atomics.notify(word, 0);
		await ended;
		if (fault !== undefined) throw fault;
	};
}

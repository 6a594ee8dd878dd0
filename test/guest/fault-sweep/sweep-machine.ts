import { basename } from "node:path";
import { openShape } from "../../fixtures/shapes.ts";
import { openSlowDisk } from "../../fixtures/slow-disk.ts";
import type { SweepMachine } from "./scene.ts";
import { makeRandom } from "./schedule.ts";
import type { SweepShape } from "./sweep-cells.ts";

const slowTypes = ["ext4", "xfs", "btrfs"] as const;

/** @param seed decides what the shape leaves open */
export async function openSweepMachine(shape: SweepShape, dir: string, seed: number): Promise<SweepMachine> {
	await using undo = new AsyncDisposableStack();
	const base = undo.use(await openShape(shape === "slow" ? "flat" : shape, { dir }));
	const fsType = slowTypes[Math.floor(makeRandom(seed)() * slowTypes.length)] as (typeof slowTypes)[number];
	const slow = shape === "slow" ? undo.use(await openSlowDisk({ dir, fsType, mode: "stuck" })) : undefined;
	const owned = undo.move();
	const more = slow === undefined ? [] : [slow];
	return {
		images: [...base.images, ...more.map(({ device, imagePath }) => ({ disk: basename(device), imagePath }))],
		writable: [...base.writable, ...more.map(({ mountPoint }) => mountPoint)],
		stateFolder: base.stateFolder,
		programsFolder: base.stateFolder,
		...(slow === undefined ? {} : { slow }),
		checkShape: () => base.checkShape(),
		thaw: () => base.thaw(),
		async [Symbol.asyncDispose]() {
			await slow?.release();
			await owned.disposeAsync();
		},
	};
}

/** What would make a FIFREEZE wait with every writer stalled is waited for before anything is frozen. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { execa } from "execa";
import { describe, expect, test } from "vitest";
import { findExclusiveOperations } from "../../platform/linux/exclusive-operations.ts";
import { freeze, type LoopFileSystem, requireTools, thaw } from "../fixtures/loop-file-system.ts";
import { poll } from "../fixtures/poll.ts";
import { inPhase, isWritable, takeSnapshot, toFrozen } from "../fixtures/snapshot-asker.ts";
import { useSnapshotBench } from "../fixtures/snapshot-bench.ts";

const missing = requireTools("root", "mkfs.ext4", "losetup", "fsfreeze");
const lackingBtrfs = requireTools("mkfs.btrfs", "btrfs");

describe.skipIf(missing)(`an exclusive operation${missing ? `: ${missing}` : ""}`, () => {
	const { make, start, defer } = useSnapshotBench();

	test.skipIf(lackingBtrfs)(`a btrfs balance is waited for${lackingBtrfs ? `: ${lackingBtrfs}` : ""}`, async () => {
		// The freeze of what lies below stops the balance until the job looks, however fast the disk is.
		const lower = await make("ext4", { sizeMiB: 1_024 });
		const disk = await make("btrfs", { sizeMiB: 768, dir: lower.mountPoint });
		await writeFile(join(disk.mountPoint, "data"), Buffer.alloc(300 * 1024 * 1024, 7));
		await execa("sync", ["-f", disk.mountPoint]);
		await freeze(lower.mountPoint);
		defer(() => thaw(lower.mountPoint));
		const balance = execa("btrfs", ["balance", "start", "--full-balance", disk.mountPoint], { reject: false });
		await poll(() => operationsOn(disk)).toEqual(["balance"]);
		const host = await start([disk]);
		await inPhase(host, "preparing");
		expect(await operationsOn(disk)).toEqual(["balance"]);
		expect(await thaw(lower.mountPoint)).toBe(true);
		await host.event("prepared");
		expect(await operationsOn(disk)).toEqual([]);
		expect((await balance).exitCode).toBe(0);
		await toFrozen(host);
		expect(await takeSnapshot(host, [disk])).toMatchObject({ achieved: "file-system", because: [] });
	});

	test("one that does not end in time refuses the job, or lowers it to crash where that is accepted", async () => {
		const [strict, lenient] = [await make("ext4"), await make("ext4")];
		for (const { device } of [strict, lenient]) await startResize(device);
		const prepareLimitMs = 16_000;
		const hosts = [
			await start([strict], { prepareLimitMs }),
			await start([lenient], { prepareLimitMs, acceptLevel: "crash" }),
		] as const;
		const refused = await hosts[0].report();
		expect(refused.error).toMatchObject({
			code: "exclusive-operation",
			message: `${strict.mountPoint}: resize2fs is running`,
		});
		expect(refused).toMatchObject({ achieved: "none", held: "none" });
		expect(hosts[0].events.some(({ type }) => type === "prepared" || type === "freezing")).toBe(false);

		await toFrozen(hosts[1]);
		expect((await hosts[1].event("frozen")).worth).toBe("crash");
		expect(await isWritable(lenient)).toBe(true);
		const lowered = await takeSnapshot(hosts[1], [lenient]);
		expect(lowered).toMatchObject({ achieved: "crash", because: ["freeze-failed"] });
		expect(lowered.error).toBeUndefined();
	});

	/** ext4 tells nothing of a resize: it is seen by its program's name and the device among its words. */
	async function startResize(device: string): Promise<void> {
		const folder = await make("ext4");
		const program = join(folder.mountPoint, "resize2fs");
		await writeFile(program, "#!/bin/sh\necho ready; exec 1>&-; while :; do sleep 1; done\n", { mode: 0o755 });
		const resize = spawn(program, [device], { stdio: ["ignore", "pipe", "ignore"], detached: true, cwd: "/" });
		defer(async () => {
			process.kill(-(resize.pid as number), "SIGKILL");
			await once(resize, "exit");
		});
		await once(resize.stdout, "data");
	}
});

async function operationsOn({ mountPoint, fsType, uuid, device }: LoopFileSystem): Promise<string[]> {
	const found = await findExclusiveOperations([{ mountPoint, fsType, uuid, device }]);
	return found.map(({ operation }) => operation);
}

import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readdirSync } from "node:fs";
import { chown, link, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { execa } from "execa";
import { beforeAll, describe, expect, test } from "vitest";
import { handlerStatusFileSchema } from "../../contracts/extension.ts";
import {
	freeze,
	type LoopFileSystem,
	makeLoopFileSystem,
	requireTools,
	thaw,
	unmount,
} from "../fixtures/loop-file-system.ts";
import { isWritable, nameOf, outcomes, takeSnapshot, toFrozen } from "../fixtures/snapshot-asker.ts";
import { useSnapshotBench } from "../fixtures/snapshot-bench.ts";

const missing = requireTools("root", "mkfs.ext4", "losetup", "mount", "fsfreeze");

describe.skipIf(missing)(`what a snapshot is worth${missing ? `: ${missing}` : ""}`, () => {
	const bench = useSnapshotBench();
	const { make, start, defer } = bench;
	let one: LoopFileSystem;
	beforeAll(() => {
		one = bench.one;
	});

	describe.each(["ext4", "xfs", "btrfs"] as const)("on %s", (fsType) => {
		const tool = requireTools(`mkfs.${fsType}`);
		test.skipIf(tool)(`a snapshot in the held window is file-system-consistent${tool ? `: ${tool}` : ""}`, async () => {
			const disk = await make(fsType);
			const host = await start([disk]);
			expect((await host.event("prepared")).disks).toMatchObject([
				{ name: nameOf(disk), fileSystemUuids: [disk.uuid] },
			]);
			expect(await isWritable(disk)).toBe(true);
			await toFrozen(host);
			expect((await host.event("frozen")).worth).toBe("file-system");
			expect(await isWritable(disk)).toBe(false);
			const report = await takeSnapshot(host, [disk]);
			expect(report).toMatchObject({ achieved: "file-system", held: "file-system", because: [] });
			expect(report.error).toBeUndefined();
			expect(report.fileSystems).toMatchObject([
				{ uuid: disk.uuid, fsType, result: "thawed", frozenUntilSnapshotEnded: true, disks: [nameOf(disk)] },
			]);
			expect(report.window?.heldMs).toBeGreaterThan(0);
			expect(await host.exited).toBe(0);
			expect(await isWritable(disk)).toBe(true);
		});
	});

	test("a file system on another is frozen first and thawed last", async () => {
		const inner = await makeLoopFileSystem({ dir: one.mountPoint, fsType: "ext4", sizeMiB: 16, name: "inner" });
		defer(() => inner[Symbol.asyncDispose]());
		const host = await start([one, inner]);
		await toFrozen(host);
		const report = await takeSnapshot(host, [one, inner]);
		expect(report).toMatchObject({ achieved: "file-system", because: [] });
		const levels = Object.fromEntries(report.fileSystems.map((fs) => [fs.mountPoint, fs.level]));
		expect(levels).toEqual({ [inner.mountPoint]: 0, [one.mountPoint]: 1 });
		expect(report.fileSystems.every((fs) => fs.result === "thawed")).toBe(true);
	});

	test("the thaw waits for nothing but the end of the snapshot", async () => {
		const host = await start([one]);
		await toFrozen(host);
		host.tell({ type: "done", jobId: host.jobId, disks: outcomes([one]) });
		await host.event("thawed");
		expect(await isWritable(one)).toBe(true);
		expect(
			host.events.some(({ type }) => type === "report"),
			"before it is described",
		).toBe(false);
		expect(await takeSnapshot(host, [one])).toMatchObject({ achieved: "file-system" });
	});

	test("the report lies on tmpfs and in the status file before the process ends", async () => {
		const host = await start([one]);
		await toFrozen(host);
		const report = await takeSnapshot(host, [one]);
		await host.exited;
		expect(JSON.parse(await readFile(join(host.runFolder, "reports", `${host.jobId}.json`), "utf8"))).toEqual(report);
		const [file] = handlerStatusFileSchema.parse(JSON.parse(await readFile(host.request.statusFile, "utf8")));
		expect(file?.status).toMatchObject({ status: "success", code: 0 });
		expect(JSON.parse(file?.status.substatus[0]?.formattedMessage.message ?? "")).toEqual(report);
		const lines = (await readFile(join(host.runFolder, `window-${host.jobId}.jsonl`), "utf8")).trim().split("\n");
		expect(lines.map((line) => JSON.parse(line).freezer.type)).toContain("frozen");
		expect(existsSync(join(host.runFolder, "freezes", `${host.jobId}.json`))).toBe(false);
	});

	describe("what was not proved lowers the level", () => {
		test("an image that carries another file system", async () => {
			const host = await start([one], { acceptLevel: "crash" });
			await toFrozen(host);
			const report = await takeSnapshot(host, [one], { uuid: "00000000-0000-0000-0000-000000000000" });
			expect(report).toMatchObject({ achieved: "crash", held: "file-system", because: ["mapping-wrong"] });
			expect(report.error).toBeUndefined();
		});

		test("an image that nobody looked at, and the order does not accept that", async () => {
			const host = await start([one]);
			await toFrozen(host);
			const report = await takeSnapshot(host, [one], { described: [] });
			expect(report).toMatchObject({ achieved: "crash", because: ["mapping-unproved"] });
			expect(report.error?.code).toBe("level-unreachable");
		});

		test("somebody else thawed in the window", async () => {
			const host = await start([one]);
			await toFrozen(host);
			expect(await thaw(one.mountPoint)).toBe(true);
			const report = await takeSnapshot(host, [one]);
			expect(report).toMatchObject({ achieved: "crash", because: ["thawed-by-other"] });
			expect(report.error?.code).toBe("thawed-by-other");
			expect(report.fileSystems[0]).toMatchObject({ result: "not-frozen", frozenUntilSnapshotEnded: false });
		});

		describe.each(["ext4", "xfs", "btrfs"] as const)("%s", (fsType) => {
			const tool = requireTools(`mkfs.${fsType}`);
			test.skipIf(tool)(`that somebody else thawed and froze again${tool ? `: ${tool}` : ""}`, async () => {
				const disk = await make(fsType);
				const host = await start([disk]);
				await toFrozen(host);
				await thaw(disk.mountPoint);
				await writeFile(join(disk.mountPoint, "in-between"), "x");
				await freeze(disk.mountPoint);
				const report = await takeSnapshot(host, [disk]);
				expect(report).toMatchObject({ achieved: "crash", because: ["thawed-by-other"] });
			});

			test.skipIf(tool)(`but not that somebody synced it while frozen${tool ? `: ${tool}` : ""}`, async () => {
				const disk = await make(fsType);
				await writeFile(join(disk.mountPoint, "clean"), "x");
				const host = await start([disk]);
				await toFrozen(host);
				// What is clean is synced at once, by a flush of the device.
				await execa("sync", ["-f", disk.mountPoint], { timeout: 3_000 });
				await execa("sync", [join(disk.mountPoint, "clean")], { timeout: 3_000 });
				expect(await takeSnapshot(host, [disk])).toMatchObject({ achieved: "file-system", because: [] });
			});
		});

		test("a file system that local config excludes", async () => {
			const request = { fileSystems: { include: [], exclude: [{ mountPoint: one.mountPoint }] } };
			const strict = await start([one], {}, { request });
			const refused = await strict.report();
			expect(refused.error?.code).toBe("level-unreachable");
			expect(strict.events.some(({ type }) => type === "targets" || type === "prepared")).toBe(false);

			const lenient = await start([one], { acceptLevel: "crash" }, { request });
			await toFrozen(lenient);
			expect((await lenient.event("frozen")).worth).toBe("crash");
			expect(await isWritable(one)).toBe(true);
			const report = await takeSnapshot(lenient, [one]);
			expect(report).toMatchObject({ achieved: "crash", because: ["excluded-by-config"] });
			expect(report.notCovered).toContainEqual(
				expect.objectContaining({ what: one.mountPoint, why: "excluded-by-config" }),
			);
		});

		test("a file system that was mounted after the plan", async () => {
			const late = await make("ext4");
			await unmount(late.mountPoint);
			const host = await start([one, late], { acceptLevel: "crash" });
			await host.event("prepared");
			await execa("mount", [late.device, late.mountPoint]);
			await toFrozen(host);
			const report = await takeSnapshot(host, [one, late]);
			const disks = Object.fromEntries(report.disks.map((disk) => [disk.name, disk]));
			expect(disks[nameOf(late)]).toMatchObject({ achieved: "crash", because: ["appeared-after-plan"] });
			expect(disks[nameOf(one)]).toMatchObject({ achieved: "file-system", because: [] });
			expect(report.notCovered).toContainEqual(
				expect.objectContaining({ what: late.mountPoint, why: "appeared-after-plan" }),
			);
		});

		test("nobody tells whether a snapshot was taken: achieved is null, held is judged", async () => {
			const host = await start([one], { snapshot: "unknown" });
			await toFrozen(host);
			host.tell({ type: "release", jobId: host.jobId });
			const report = await host.report();
			expect(report).toMatchObject({ achieved: null, held: "file-system", because: [] });
			expect(report.error).toBeUndefined();
		});

		test("an order for level crash freezes nothing", async () => {
			const host = await start([one], { level: "crash", acceptLevel: "crash" });
			await toFrozen(host);
			expect(await isWritable(one)).toBe(true);
			expect(host.events.some(({ type }) => type === "freezing" || type === "targets")).toBe(false);
			const report = await takeSnapshot(host, [one]);
			expect(report).toMatchObject({ achieved: "crash", held: "crash", because: ["ordered-crash"] });
		});
	});

	test("a file system that only another mount namespace has is reached and frozen", async () => {
		const other = await make("ext4");
		const child = spawn("unshare", ["--mount", "--propagation", "private", "sh", "-c", "echo in; read x"], {
			stdio: ["pipe", "pipe", "inherit"],
		});
		defer(async () => {
			child.stdin.end();
			await once(child, "exit");
		});
		await once(child.stdout, "data");
		await unmount(other.mountPoint);
		const host = await start([other]);
		await toFrozen(host);
		const target = (await host.event("targets")).targets[0];
		expect(target?.openPath).toBe(`/proc/${child.pid}/root${other.mountPoint}`);
		const report = await takeSnapshot(host, [other]);
		expect(report).toMatchObject({ achieved: "file-system", because: [] });
	});

	test("a marker of a killed job goes, a file that a user laid under such a name stays, as do links", async () => {
		const name = (word: string) => join(one.mountPoint, `.stillpoint-hold-${word}`);
		const kept = ["of-a-user", "a-hard-link", "a-link"];
		await writeFile(name("of-a-killed-job"), "x");
		await writeFile(name("of-a-user"), "x");
		await chown(name("of-a-user"), 65534, 65534);
		await writeFile(join(one.mountPoint, "precious"), "precious");
		await link(join(one.mountPoint, "precious"), name("a-hard-link"));
		await symlink("precious", name("a-link"));
		const host = await start([one]);
		await toFrozen(host);
		await takeSnapshot(host, [one]);
		expect(kept.filter((word) => readdirSync(one.mountPoint).includes(`.stillpoint-hold-${word}`))).toEqual(kept);
		expect(existsSync(name("of-a-killed-job"))).toBe(false);
		expect(await readFile(join(one.mountPoint, "precious"), "utf8")).toBe("precious");
		for (const word of kept) await rm(name(word));
	});
});

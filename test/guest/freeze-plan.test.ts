import { type ChildProcess, spawn } from "node:child_process";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { execa } from "execa";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { findExclusiveOperations } from "../../platform/linux/exclusive-operations.ts";
import { loadFreezeCalls } from "../../platform/linux/freeze-calls.ts";
import { findTargetsBelow, planFreeze } from "../../platform/linux/freeze-plan.ts";
import { reachTargets } from "../../platform/linux/reach-targets.ts";
import { readStorageFacts } from "../../platform/linux/storage-facts.ts";
import { markerName, removeMarkers, writeMarkers } from "../../platform/linux/write-probe.ts";
import {
	attachLoop,
	freeze,
	type LoopFileSystem,
	type LoopFileSystemOptions,
	makeLoopFileSystem,
	requireTools,
	startGuard,
	thaw,
	unmount,
} from "../fixtures/loop-file-system.ts";
import { planLoops, targetsOf } from "../fixtures/planned-targets.ts";

const lacking = requireTools("root", "mkfs.ext4", "losetup", "mount");
const lackingXfs = requireTools("mkfs.xfs");
const lackingBtrfs = requireTools("mkfs.btrfs", "btrfs");

describe.skipIf(lacking)(`the plan for real file systems${lacking ? ` (${lacking})` : ""}`, () => {
	let stack: AsyncDisposableStack;
	let dir: string;

	beforeEach(async () => {
		stack = new AsyncDisposableStack();
		dir = await mkdtemp("/var/lib/stillpoint-test-plan-");
		stack.defer(() => rm(dir, { recursive: true, force: true }));
		stack.use(startGuard({ dir, limitMs: 90_000 }));
	});
	afterEach(() => stack.disposeAsync());

	async function make(name: string, more: Partial<LoopFileSystemOptions> = {}): Promise<LoopFileSystem> {
		return stack.use(await makeLoopFileSystem({ dir, fsType: "ext4", sizeMiB: 24, name, ...more }));
	}

	async function mount(point: string, ...args: string[]): Promise<void> {
		await mkdir(point, { recursive: true });
		await execa("mount", [...args, point]);
		stack.defer(() => unmount(point));
	}

	it("bind mounts are one target, with its UUID and the disk's", async () => {
		const one = await make("one");
		await mkdir(join(one.mountPoint, "sub"));
		await mount(join(dir, "bind"), "--bind", join(one.mountPoint, "sub"));
		const plan = await planLoops([one]);
		const disk = basename(one.device);
		expect(plan.targets).toMatchObject([
			{
				mountPoint: one.mountPoint,
				aliases: [join(dir, "bind")],
				uuid: one.uuid,
				disks: [disk],
				spans: false,
				level: 0,
			},
		]);
		expect(plan.disks.find(({ name }) => name === disk)).toMatchObject({ included: true, fileSystemUuids: [one.uuid] });
	});

	it.skipIf(lackingXfs)("XFS is known by its UUID, and its external log makes it span", async () => {
		const log = join(dir, "log.img");
		await writeFile(log, "");
		await execa("truncate", ["-s", "64M", log]);
		const logDevice = await attachLoop(log);
		stack.defer(() => void execa("losetup", ["--detach", logDevice]));
		const one = await make("x", {
			fsType: "xfs",
			sizeMiB: 320,
			mkfsArgs: ["-l", `logdev=${logDevice}`],
			mountOptions: [`logdev=${logDevice}`],
		});
		const plan = await planLoops([one]);
		expect(plan.targets).toMatchObject([{ uuid: one.uuid, disks: [basename(one.device)], spans: true }]);
		const both = await planLoops([one, { devices: [logDevice] }]);
		expect(both.targets).toMatchObject([{ disks: [basename(one.device), basename(logDevice)].sort(), spans: false }]);
		const onlyLog = await planLoops([{ devices: [logDevice] }]);
		expect(onlyLog.targets).toMatchObject([{ mountPoint: one.mountPoint, spans: true }]);
		await one.close();
	});

	it("an external ext4 journal is storage of the file system", async () => {
		const image = join(dir, "journal.img");
		await writeFile(image, "");
		await execa("truncate", ["-s", "16M", image]);
		const journal = await attachLoop(image);
		stack.defer(() => void execa("losetup", ["--detach", journal]));
		await execa("mke2fs", ["-q", "-F", "-b", "4096", "-O", "journal_dev", journal]);
		const one = await make("j", { mkfsArgs: ["-b", "4096", "-J", `device=${journal}`] });
		expect((await planLoops([one])).targets).toMatchObject([{ uuid: one.uuid, spans: true }]);
		const both = await planLoops([one, { devices: [journal] }]);
		expect(both.targets).toMatchObject([{ spans: false, disks: [basename(one.device), basename(journal)].sort() }]);
		await one.close();
	});

	it.skipIf(lackingBtrfs)(
		"a btrfs on two devices is one target on both disks, whatever subvolume is mounted",
		async () => {
			const one = await make("b", { fsType: "btrfs", sizeMiB: 128, devices: 2 });
			await execa("btrfs", ["subvolume", "create", join(one.mountPoint, "sub")]);
			await mount(join(dir, "sub"), "-o", "subvol=sub", one.device);
			const plan = await planLoops([one]);
			const disks = one.devices.map((device) => basename(device)).sort();
			expect(plan.targets).toMatchObject([
				{ mountPoint: one.mountPoint, aliases: [join(dir, "sub")], uuid: one.uuid, disks, spans: false },
			]);
			for (const disk of disks)
				expect(plan.disks.find(({ name }) => name === disk)?.fileSystemUuids).toEqual([one.uuid]);
			const half = await planLoops([{ devices: [one.devices[1] as string] }]);
			expect(half.targets).toMatchObject([{ mountPoint: one.mountPoint, spans: true }]);
			expect(half.notCovered).toContainEqual({ what: one.mountPoint, why: "spans-left-out-disk" });
			expect(await findExclusiveOperations(plan.targets)).toEqual([]);
		},
	);

	it.skipIf(lackingBtrfs)("a running balance is seen, and over when it is over", async () => {
		const one = await make("balanced", { fsType: "btrfs", sizeMiB: 512 });
		await writeFile(join(one.mountPoint, "data"), Buffer.alloc(120 * 1024 * 1024, 7));
		await execa("sync", ["-f", one.mountPoint]);
		const { targets } = await planLoops([one]);
		const balance = execa("btrfs", ["balance", "start", "--full-balance", one.mountPoint], { reject: false });
		let over = false;
		balance.then(() => {
			over = true;
		});
		const seen = new Set<string>();
		while (!over) for (const { operation } of await findExclusiveOperations(targets)) seen.add(operation);
		expect([...seen]).toEqual(["balance"]);
		expect(await findExclusiveOperations(targets)).toEqual([]);
	});

	it("a resize is seen by its program", async () => {
		const [one, two] = [await make("one"), await make("two")];
		const program = join(dir, "resize2fs");
		await writeFile(program, "#!/bin/sh\necho ready; sleep 60 & wait\n", { mode: 0o755 });
		const resize = spawn(program, [one.device], { stdio: ["ignore", "pipe", "ignore"], detached: true });
		stack.defer(() => void process.kill(-(resize.pid ?? 0), "SIGKILL"));
		await new Promise((resolve) => resize.stdout?.once("data", resolve));
		const { targets } = await planLoops([one, two]);
		expect(await findExclusiveOperations(targets)).toEqual([{ mountPoint: one.mountPoint, operation: "resize2fs" }]);
	});

	it.skipIf(lackingBtrfs)("a loop on a btrfs subvolume lies on the btrfs", async () => {
		const lower = await make("lower", { fsType: "btrfs", sizeMiB: 256 });
		await execa("btrfs", ["subvolume", "create", join(lower.mountPoint, "sub")]);
		const upper = await make("upper", { dir: join(lower.mountPoint, "sub") });
		const plan = await planLoops([lower]);
		expect(plan.targets.map(({ mountPoint, level }) => [mountPoint, level])).toEqual([
			[upper.mountPoint, 0],
			[lower.mountPoint, 1],
		]);
	});

	it("two levels of nesting are two levels of the plan, though only the lowest disk is named", async () => {
		const a = await make("a", { sizeMiB: 128 });
		const b = await make("b", { dir: a.mountPoint, sizeMiB: 64 });
		const c = await make("c", { dir: b.mountPoint, sizeMiB: 16 });
		const plan = await planLoops([a]);
		expect(plan.targets.map(({ mountPoint, level }) => [mountPoint, level])).toEqual([
			[c.mountPoint, 0],
			[b.mountPoint, 1],
			[a.mountPoint, 2],
		]);
		expect(plan.targets.every(({ disks, spans }) => disks.join() === basename(a.device) && !spans)).toBe(true);
	});

	it("what is hidden under another mount is reached by its alias, and without one it is said to be not reached", async () => {
		const one = await make("one");
		await mount(join(dir, "alias"), "--bind", one.mountPoint);
		await execa("mount", ["-t", "tmpfs", "tmpfs", one.mountPoint]);
		stack.defer(() => void execa("umount", [one.mountPoint]).catch(() => undefined));
		expect(await targetsOf([one])).toMatchObject([{ openPath: join(dir, "alias") }]);
		await unmount(join(dir, "alias"));
		const plan = await planLoops([one]);
		expect(plan.targets).toEqual([]);
		expect(plan.leftOut).toMatchObject([{ mountPoint: one.mountPoint, why: "not-reached", writable: true }]);
		await execa("umount", [one.mountPoint]);
	});

	for (const fsType of ["ext4", "btrfs"] as const) {
		const tool = requireTools(`mkfs.${fsType}`);
		const claim = "what is hidden is reached through a process that has a folder of it open";
		it.skipIf(tool)(`${claim} (${fsType}${tool ? `, ${tool}` : ""})`, async () => {
			const one = await make("one", { fsType, sizeMiB: 128 });
			const holder = spawn("sh", ["-c", 'exec 3< "$1"; echo ready; exec sleep 60', "sh", one.mountPoint], {
				stdio: ["ignore", "pipe", "ignore"],
				cwd: "/",
			});
			stack.defer(() => endProcess(holder));
			await new Promise((resolve) => holder.stdout?.once("data", resolve));
			await execa("mount", ["-t", "tmpfs", "tmpfs", one.mountPoint]);
			stack.defer(() => void execa("umount", [one.mountPoint]).catch(() => undefined));
			expect(await targetsOf([one])).toMatchObject([
				{ mountPoint: one.mountPoint, openPath: `/proc/${holder.pid}/fd/3`, fsType },
			]);
			await endProcess(holder);
			expect((await planLoops([one])).leftOut).toMatchObject([{ why: "not-reached" }]);
			await execa("umount", [one.mountPoint]);
		});
	}

	it("what is hidden is reached through a process that works in it", async () => {
		const one = await make("one");
		const worker = spawn("sleep", ["60"], { stdio: "ignore", cwd: one.mountPoint });
		stack.defer(() => endProcess(worker));
		await execa("mount", ["-t", "tmpfs", "tmpfs", one.mountPoint]);
		const misled = spawn("sleep", ["60"], { stdio: "ignore", cwd: one.mountPoint });
		stack.defer(() => endProcess(misled));
		stack.defer(() => void execa("umount", ["--lazy", one.mountPoint]).catch(() => undefined));
		expect(await targetsOf([one])).toMatchObject([{ openPath: `/proc/${worker.pid}/cwd`, ino: "2" }]);
		await endProcess(worker);
		const { targets } = await planLoops([one]);
		expect((await reachTargets(targets, AbortSignal.timeout(2_000))).notReached).toHaveLength(1);
		await endProcess(misled);
		await execa("umount", [one.mountPoint]);
	});

	it("what is unmounted lazily while a file is open is still there, and said to be not reached", async () => {
		const one = await make("one");
		const holder = await holdOpen(join(one.mountPoint, "file"));
		await execa("umount", ["--lazy", one.mountPoint]);
		const plan = await planLoops([one]);
		expect(plan.leftOut).toMatchObject([{ device: one.device, why: "not-reached", writable: true }]);
		holder.kill();
	});

	it("read-only, tmpfs and overlay are no targets, and each is named", async () => {
		const one = await make("one");
		await execa("mount", ["-o", "remount,ro", one.mountPoint]);
		const two = await make("two");
		for (const name of ["low", "up", "work"]) await mkdir(join(two.mountPoint, name));
		const options = `lowerdir=${two.mountPoint}/low,upperdir=${two.mountPoint}/up,workdir=${two.mountPoint}/work`;
		await mount(join(dir, "merged"), "-t", "overlay", "overlay", "-o", options);
		await mount(join(dir, "tmp"), "-t", "tmpfs", "tmpfs");
		const facts = await readStorageFacts({ calls: await loadFreezeCalls(), signal: AbortSignal.timeout(5_000) });
		const include = [one, two].map(({ device }) => basename(device));
		const filters = { include: [], exclude: [] };
		const plan = planFreeze({ facts, selection: { include }, filters, tempDisks: [], hostFolders: [] });
		expect(plan.targets.map(({ mountPoint }) => mountPoint)).toEqual([two.mountPoint]);
		const words = plan.notCovered
			.filter(({ what }) => what.startsWith(dir))
			.map(({ what, why }) => [basename(what), why]);
		expect(words).toEqual([
			["one", "read-only"],
			["merged", "no-storage"],
			["tmp", "no-storage"],
		]);
		expect(findTargetsBelow(plan, facts, join(dir, "merged"))).toMatchObject([{ mountPoint: two.mountPoint }]);
		expect(findTargetsBelow(plan, facts, join(dir, "tmp"))).toEqual([]);
		await unmount(join(dir, "merged"));
	});

	it("a file system of another mount namespace is planned through a process in it, and gone with it", async () => {
		const one = await make("one");
		const other = spawn("unshare", ["-m", "--propagation", "private", "sh", "-c", "echo ready; exec sleep 60"], {
			stdio: ["ignore", "pipe", "ignore"],
		});
		stack.defer(() => endProcess(other));
		await new Promise((resolve) => other.stdout?.once("data", resolve));
		await execa("umount", [one.mountPoint]);
		const [target] = await targetsOf([one]);
		expect(target?.openPath).toMatch(new RegExp(`^/proc/\\d+/root${one.mountPoint}$`));
		expect(target?.mountPoint).toBe(one.mountPoint);
		await endProcess(other);
		expect((await planLoops([one])).targets).toEqual([]);
	});

	it("a path that leads elsewhere by now is not reached", async () => {
		const [one, two] = [await make("one"), await make("two")];
		const { targets } = await planLoops([one]);
		const lured = targets.map((target) => ({
			...target,
			reaches: [{ mountPoint: two.mountPoint, openPath: two.mountPoint }],
		}));
		const reached = await reachTargets(lured, AbortSignal.timeout(2_000));
		expect(reached.targets).toEqual([]);
		expect(reached.notReached).toMatchObject([{ message: expect.stringContaining("does not lead to it") }]);
	});

	describe("the write probe", () => {
		it("leaves a durable marker of the job, and takes it away", async () => {
			const one = await make("one");
			const probe = { folders: [one.mountPoint], jobId: "job-1", limitMs: 5_000 };
			expect(await writeMarkers({ ...probe, nonce: "n-1" })).toEqual([{ folder: one.mountPoint, result: "ok" }]);
			const marker = JSON.parse(await readFile(join(one.mountPoint, markerName("job-1")), "utf8"));
			expect(marker).toEqual({ jobId: "job-1", marker: "n-1", writtenAt: expect.stringMatching(/^\d{4}-.*Z$/) });
			expect(await removeMarkers(probe)).toEqual([{ folder: one.mountPoint, result: "ok" }]);
			await expect(readFile(join(one.mountPoint, markerName("job-1")))).rejects.toMatchObject({ code: "ENOENT" });
			expect(await removeMarkers(probe)).toEqual([{ folder: one.mountPoint, result: "ok" }]);
		});

		it("a foreign freeze is stuck, and the others are probed all the same", async () => {
			const [one, two] = [await make("one"), await make("two")];
			await freeze(one.mountPoint);
			const started = process.hrtime.bigint();
			const answers = await writeMarkers({
				folders: [one.mountPoint, two.mountPoint],
				jobId: "job-1",
				nonce: "n",
				limitMs: 1_000,
			});
			expect(answers.map(({ result }) => result)).toEqual(["stuck", "ok"]);
			expect(Number(process.hrtime.bigint() - started) / 1e6).toBeLessThan(3_000);
			await thaw(one.mountPoint);
		});

		it("read-only and full are told from other failures", async () => {
			const [full, readOnly] = [await make("full", { mkfsArgs: ["-N", "16"] }), await make("ro")];
			for (let index = 0; index < 20; index += 1)
				await writeFile(join(full.mountPoint, `f${index}`), "").catch(() => undefined);
			await execa("mount", ["-o", "remount,ro", readOnly.mountPoint]);
			const folders = [full.mountPoint, readOnly.mountPoint, join(dir, "absent")];
			const answers = await writeMarkers({ folders, jobId: "job-1", nonce: "n", limitMs: 5_000 });
			expect(answers.map(({ result }) => result)).toEqual(["no-space", "read-only", "failed"]);
		});
	});
});

async function holdOpen(path: string): Promise<ChildProcess> {
	const child = spawn("sh", ["-c", 'exec 3> "$1"; echo ready; exec sleep 60', "sh", path], {
		stdio: ["ignore", "pipe", "ignore"],
		cwd: "/",
	});
	await new Promise((resolve) => child.stdout?.once("data", resolve));
	return child;
}

async function endProcess(child: ChildProcess): Promise<void> {
	if (child.exitCode !== null || child.signalCode !== null) return;
	const ended = new Promise((resolve) => child.once("exit", resolve));
	child.kill("SIGKILL");
	await ended;
}

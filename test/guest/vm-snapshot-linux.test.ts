import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readdirSync } from "node:fs";
import { chown, cp, link, mkdir, mkdtemp, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { execa } from "execa";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { handlerStatusFileSchema } from "../../contracts/extension.ts";
import type { OrderInput } from "../../contracts/order.ts";
import type { Report } from "../../contracts/report.ts";
import { thawFromLedgers } from "../../platform/linux/rescue-thaw.ts";
import {
	freeze,
	type LoopFileSystem,
	type LoopFileSystemType,
	makeLoopFileSystem,
	requireTools,
	startGuard,
	thaw,
	unmount,
} from "../fixtures/loop-file-system.ts";
import { startTestHost, type TestHost, type TestHostOptions } from "../fixtures/snapshot-host.ts";

const missing = requireTools("root", "mkfs.ext4", "losetup", "mount", "fsfreeze");

describe.skipIf(missing)(`VMSnapshotLinux as a process${missing ? `: ${missing}` : ""}`, () => {
	let dir: string;
	let guard: Disposable;
	let one: LoopFileSystem;
	const undo: AsyncDisposableStack[] = [];
	let count = 0;

	beforeAll(async () => {
		dir = await mkdtemp("/var/lib/stillpoint-test-");
		guard = startGuard({ dir, limitMs: 600_000 });
		one = await makeLoopFileSystem({ dir, fsType: "ext4", sizeMiB: 48, name: "one" });
	});
	afterEach(async () => {
		for (const stack of undo.splice(0)) await stack.disposeAsync();
		expect(await thaw(one.mountPoint), "was left frozen").toBe(false);
		expect(readdirSync(one.mountPoint).filter((name) => name.startsWith(".stillpoint"))).toEqual([]);
	});
	afterAll(async () => {
		await one[Symbol.asyncDispose]();
		guard[Symbol.dispose]();
		await rm(dir, { recursive: true, force: true });
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

		test.each(["ext4", "xfs", "btrfs"] as const)("somebody else thawed %s and froze it again", async (fsType) => {
			if (requireTools(`mkfs.${fsType}`)) return;
			const disk = await make(fsType);
			const host = await start([disk]);
			await toFrozen(host);
			await thaw(disk.mountPoint);
			await writeFile(join(disk.mountPoint, "in-between"), "x");
			await freeze(disk.mountPoint);
			const report = await takeSnapshot(host, [disk]);
			expect(report).toMatchObject({ achieved: "crash", because: ["thawed-by-other"] });
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

	describe("nothing stays frozen", () => {
		test("when the freezer is killed while frozen", async () => {
			const host = await start([one]);
			await toFrozen(host);
			process.kill(await host.freezerPid(), "SIGKILL");
			const report = await host.report();
			expect(report.error?.code).toBe("freezer-died");
			// Nobody said that a snapshot had ended by then.
			expect(report).toMatchObject({ achieved: "none", held: "crash" });
			expect(report.because).toContain("thawed-early");
			expect(await isWritable(one)).toBe(true);
		});

		test("and what was thawed for a dead freezer is not thawed once more when somebody else has frozen it", async () => {
			const host = await start([one]);
			await toFrozen(host);
			process.kill(await host.freezerPid(), "SIGKILL");
			await host.exited;
			await freeze(one.mountPoint);
			expect(await thawFromLedgers(host.runFolder)).toEqual([]);
			expect(await thaw(one.mountPoint)).toBe(true);
		});

		test("when the freezer is stopped and the asker is done", async () => {
			const host = await start([one], { acceptLevel: "crash" });
			await toFrozen(host);
			process.kill(await host.freezerPid(), "SIGSTOP");
			const report = await takeSnapshot(host, [one]);
			// Our own FITHAW answered that it was frozen until then: that is as good a proof.
			expect(report).toMatchObject({ achieved: "file-system", because: [] });
			expect(await isWritable(one)).toBe(true);
		});

		test("when the freezer is stopped and nobody says anything", async () => {
			const host = await start([one], { holdLimitMs: 700 });
			await toFrozen(host);
			process.kill(await host.freezerPid(), "SIGSTOP");
			const report = await host.report();
			expect(report.error?.code).toBe("hold-expired");
			expect(await isWritable(one)).toBe(true);
		});

		test("when the freezer is stopped before it could freeze", async () => {
			const host = await start([one], { holdLimitMs: 500 }, { quiet: false });
			await host.event("prepared");
			host.tell({ type: "freeze", jobId: host.jobId });
			process.kill((await host.event("freezing")).freezerPid, "SIGSTOP");
			host.tell({ type: "quiet", jobId: host.jobId });
			expect((await host.report()).error?.code).toBe("freezer-died");
			expect(host.events.some(({ type }) => type === "frozen")).toBe(false);
			expect(await isWritable(one)).toBe(true);
		});

		test("when freezer and extension are killed at once, the ledger names what is frozen", async () => {
			const host = await start([one]);
			await toFrozen(host);
			const freezer = await host.freezerPid();
			process.kill(freezer, "SIGSTOP");
			host.process.kill("SIGKILL");
			process.kill(freezer, "SIGKILL");
			await host.exited;
			expect(await isWritable(one), "nobody is left who could thaw").toBe(false);
			const results = await thawFromLedgers(host.runFolder);
			expect(results).toMatchObject([{ jobId: host.jobId, mountPoint: one.mountPoint, result: "thawed" }]);
			await untilWritable(one);
			await rm(join(one.mountPoint, `.stillpoint-hold-${host.jobId}`), { force: true });
		});

		test("when the asker is silent until the hold limit", async () => {
			const host = await start([one], { holdLimitMs: 500 });
			await toFrozen(host);
			const report = await host.report();
			expect(report.error?.code).toBe("hold-expired");
			expect(report).toMatchObject({ achieved: "none", because: ["thawed-early", "snapshot-not-taken"] });
			expect(await isWritable(one)).toBe(true);
		});

		test("when the extension is killed while frozen", async () => {
			const host = await start([one]);
			await toFrozen(host);
			host.process.kill("SIGKILL");
			expect(await host.exited).toBe("SIGKILL");
			await untilWritable(one);
			expect(existsSync(join(one.mountPoint, `.stillpoint-hold-${host.jobId}`))).toBe(true);
			const next = await start([one]);
			await toFrozen(next);
			expect(await takeSnapshot(next, [one])).toMatchObject({ achieved: "file-system" });
			expect(existsSync(join(one.mountPoint, `.stillpoint-hold-${host.jobId}`)), "marker of a killed job").toBe(false);
		});

		test.each(["SIGTERM", "SIGINT"] as const)("when the extension gets %s while frozen", async (signal) => {
			const host = await start([one]);
			await toFrozen(host);
			host.process.kill(signal);
			expect((await host.report()).error?.code).toBe("stopping");
			expect(await isWritable(one)).toBe(true);
		});

		test("when the host closes stdin while frozen", async () => {
			const host = await start([one]);
			await toFrozen(host);
			host.process.stdin?.end();
			expect((await host.report()).error?.code).toBe("asker-lost");
			expect(await isWritable(one)).toBe(true);
		});

		test("when the channel is lost while frozen; the report is then in the status file", async () => {
			const host = await start([one]);
			await toFrozen(host);
			await host.loseChannel();
			expect(await host.exited).not.toBe(0);
			expect(await isWritable(one)).toBe(true);
			const [file] = JSON.parse(await readFile(host.request.statusFile, "utf8"));
			expect(JSON.parse(file.status.substatus[0].formattedMessage.message).error.code).toBe("asker-lost");
		});
	});

	test("a FIFREEZE that the kernel does not let go of makes the job stuck until it does, and no longer", async () => {
		const lower = await make("ext4");
		const upper = await makeLoopFileSystem({ dir: lower.mountPoint, fsType: "ext4", sizeMiB: 16, name: "upper" });
		defer(() => upper[Symbol.asyncDispose]());
		const host = await start([one, upper], { holdLimitMs: 1_000 }, { quiet: false });
		await host.event("prepared");
		host.tell({ type: "freeze", jobId: host.jobId });
		await host.event("freezing");
		// A freeze of what lies below holds up ours, which can't be taken back.
		await freeze(lower.mountPoint);
		host.tell({ type: "quiet", jobId: host.jobId });
		const stuck = await host.event("stuck");
		expect(stuck.fileSystems).toContain(upper.mountPoint);
		expect(stuck.error.code).toBe("stuck");
		expect(await isWritable(one), "the others are let go at once").toBe(true);
		expect(host.events.some(({ type }) => type === "report")).toBe(false);
		expect(await thaw(lower.mountPoint)).toBe(true);
		const report = await host.report();
		expect(report.error?.code).toBe("freeze-late");
		expect(await isWritable(upper)).toBe(true);
		expect(await host.exited).toBe(0);
	});

	test("nothing of the job touches a disk or starts a process while frozen", async () => {
		const statusFile = join(one.mountPoint, "status", "1.status");
		await mkdir(join(one.mountPoint, "status"));
		defer(() => rm(join(one.mountPoint, "status"), { recursive: true }));
		const host = await start([one], { holdLimitMs: 2_000 }, { request: { statusFile } });
		await toFrozen(host);
		const before = await childrenOf(host);
		const states = new Set<string>();
		for (let turn = 0; turn < 40; turn += 1) {
			for (const state of await threadStatesOf(host)) states.add(state);
			await sleep(10);
		}
		expect(await childrenOf(host)).toEqual(before);
		expect(before).toHaveLength(1);
		expect(states.size).toBeGreaterThan(0);
		expect(states).not.toContain("D");
		const report = await takeSnapshot(host, [one]);
		expect(report).toMatchObject({ achieved: "file-system" });
		await host.exited;
		expect(JSON.parse(await readFile(statusFile, "utf8"))[0].status.status).toBe("success");
	});

	describe("a cancel", () => {
		test("while FIFREEZE runs", async () => {
			const host = await start([one], {}, { quiet: false });
			await host.event("prepared");
			host.tell({ type: "freeze", jobId: host.jobId });
			await host.event("freezing");
			host.tell({ type: "quiet", jobId: host.jobId });
			host.tell({ type: "cancel", jobId: host.jobId, code: "cancelled" });
			expect(await host.report()).toMatchObject({ achieved: "none", error: { code: "cancelled" } });
			expect(await isWritable(one)).toBe(true);
		});

		test("before the plan", async () => {
			const host = await start([one]);
			host.tell({ type: "cancel", jobId: host.jobId, code: "cancelled" });
			expect((await host.report()).error?.code).toBe("cancelled");
			expect(await host.exited).toBe(0);
		});

		test.each(["preparing", "prepared"] as const)("in phase %s", async (phase) => {
			const host = await start([one]);
			await inPhase(host, phase);
			host.tell({ type: "cancel", jobId: host.jobId, code: "cancelled" });
			const report = await host.report();
			expect(report).toMatchObject({ achieved: "none", held: "none", error: { code: "cancelled" } });
			expect(host.events.some(({ type }) => type === "freezing")).toBe(false);
		});

		test("while the host has not yet answered quiet", async () => {
			const host = await start([one], {}, { quiet: false });
			await host.event("prepared");
			host.tell({ type: "freeze", jobId: host.jobId });
			await host.event("freezing");
			host.tell({ type: "cancel", jobId: host.jobId, code: "asker-lost" });
			expect((await host.report()).error?.code).toBe("asker-lost");
			await host.event("thawed");
			expect(host.events.some(({ type }) => type === "frozen")).toBe(false);
		});

		test("while frozen", async () => {
			const host = await start([one]);
			await toFrozen(host);
			host.tell({ type: "cancel", jobId: host.jobId, code: "cancelled" });
			expect(await host.report()).toMatchObject({ achieved: "none", error: { code: "cancelled" } });
			expect(await isWritable(one)).toBe(true);
		});

		test("after the thaw comes too late to change anything but the proof", async () => {
			const host = await start([one], { acceptLevel: "crash" });
			await toFrozen(host);
			host.tell({ type: "done", jobId: host.jobId, disks: outcomes([one]) });
			await host.event("thawed");
			host.tell({ type: "cancel", jobId: host.jobId, code: "cancelled" });
			const report = await host.report();
			expect(report).toMatchObject({ achieved: "crash", held: "file-system", because: ["mapping-unproved"] });
			expect(report.error).toBeUndefined();
		});
	});

	test("a host that does not become quiet stops the job before anything is frozen", async () => {
		const host = await start([one], {}, { quiet: false });
		await host.event("prepared");
		host.tell({ type: "freeze", jobId: host.jobId });
		expect((await host.report()).error?.code).toBe("deadline-passed");
		expect(host.events.some(({ type }) => type === "frozen")).toBe(false);
	});

	test("an asker that never says freeze stops the job when its time is over", async () => {
		const host = await start([one], { prepareLimitMs: 1500 });
		expect((await host.report()).error?.code).toBe("deadline-passed");
	});

	test("an asker that can't prepare lets go, and its reason is the job's", async () => {
		const host = await start([one]);
		await host.event("prepared");
		host.tell({ type: "release", jobId: host.jobId, error: { code: "copy-too-slow", message: "9 s, 5 s allowed" } });
		expect((await host.report()).error).toMatchObject({ code: "copy-too-slow", message: "9 s, 5 s allowed" });
	});

	describe("a foreign freeze", () => {
		test("is left alone and named", async () => {
			const other = await make("ext4");
			await freeze(other.mountPoint);
			const host = await start([one, other]);
			const report = await host.report();
			expect(report.error?.code).toBe("foreign-freeze");
			expect(report.error?.message).toContain(other.mountPoint);
			expect(await thaw(other.mountPoint), "was left frozen by its owner").toBe(true);
		});

		test("that comes between the probe and our freeze gives level crash where that is accepted", async () => {
			const other = await make("ext4");
			const host = await start([one, other], { acceptLevel: "crash" });
			await host.event("prepared");
			await freeze(other.mountPoint);
			// The last sync waits for nobody: syncfs of a frozen file system that is clean returns.
			await toFrozen(host);
			expect((await host.event("frozen")).worth).toBe("crash");
			expect(await isWritable(one)).toBe(true);
			const report = await takeSnapshot(host, [one, other]);
			expect(report).toMatchObject({ achieved: "crash" });
			expect(report.because).toContain("foreign-freeze");
			expect(await thaw(other.mountPoint), "was left frozen by its owner").toBe(true);
		});
	});

	test("a lower layer that somebody else has frozen ends the job, and the process with it", async () => {
		const lower = await make("ext4");
		const upper = await make("ext4", lower.mountPoint);
		await freeze(lower.mountPoint);
		defer(async () => void (await thaw(lower.mountPoint)));
		const host = await start([lower], { prepareLimitMs: 15_000 });
		expect((await host.report()).error?.code).toBe("foreign-freeze");
		expect(await host.exited).toBeGreaterThan(-1);
		expect(await thaw(lower.mountPoint)).toBe(true);
		expect(await thaw(upper.mountPoint)).toBe(false);
	}, 40_000);

	test("a run folder on a file system of the order is refused before anything is frozen", async () => {
		const runFolder = join(one.mountPoint, "run");
		defer(() => rm(runFolder, { recursive: true, force: true }));
		const host = await start([one], {}, { request: { runFolder } });
		expect((await host.report()).error?.code).toBe("run-dir-unsafe");
	});

	test("a disk that does not exist is refused", async () => {
		const host = await startTestHost({ order: order({ disks: { include: ["loop9999"] } }) });
		defer(() => host[Symbol.asyncDispose]());
		expect((await host.report()).error?.code).toBe("disk-unknown");
	});

	describe("applications", () => {
		let scripts: string;

		test("that are all proved make the snapshot application-consistent", async () => {
			await configure({ pair: pair("pair", 1), session: session("holds.sh", 2) });
			const host = await start([one], application, withScripts());
			await toFrozen(host);
			expect((await host.event("frozen")).worth).toBe("application");
			const report = await takeSnapshot(host, [one]);
			expect(report).toMatchObject({ achieved: "application", because: [] });
			expect(report.scripts.map(({ name, phase }) => `${name} ${phase}`)).toEqual([
				"pair pre",
				"session session",
				"pair post",
			]);
			expect(await lines()).toEqual(["pair pre ", "session ready", "session release snapshot", "pair post snapshot"]);
		});

		test("none configured: file-system at best, and not even begun where more is wanted", async () => {
			await configure({});
			const strict = await start([one], { ...application, acceptLevel: "application" }, withScripts());
			expect((await strict.report()).error?.code).toBe("level-unreachable");
			expect(strict.events.some(({ type }) => type === "targets")).toBe(false);
			const host = await start([one], application, withScripts());
			await toFrozen(host);
			const report = await takeSnapshot(host, [one]);
			expect(report).toMatchObject({ achieved: "file-system", because: ["no-applications"] });
		});

		test("whose pre fails: nothing is frozen, and post runs for what was started", async () => {
			await configure({
				first: pair("first", 1),
				second: { ...pair("second", 2), pre: { command: ["SCRIPTS/exits-3.sh"] } },
			});
			const host = await start([one], application, withScripts());
			await host.event("prepared");
			host.tell({ type: "freeze", jobId: host.jobId });
			const report = await host.report();
			expect(report.error?.code).toBe("script-failed");
			expect(await lines()).toEqual(["first pre ", "second post no-snapshot", "first post no-snapshot"]);
			expect(host.events.some(({ type }) => type === "freezing")).toBe(false);
		});

		test("that may fail lower the level only", async () => {
			await configure({
				shop: { ...pair("shop", 1), onFailure: "continue", pre: { command: ["SCRIPTS/exits-3.sh"] } },
			});
			const host = await start([one], application, withScripts());
			await toFrozen(host);
			const report = await takeSnapshot(host, [one]);
			expect(report).toMatchObject({ achieved: "file-system", because: ["script-failed"] });
			expect(report.error).toBeUndefined();
		});

		test("a session that dies while frozen ends the hold at once", async () => {
			const word = join("/dev/shm", `stillpoint-test-die-${process.pid}`);
			defer(() => rm(word, { force: true }));
			await configure({ session: { ...session("dies-when-told.sh", 1), args: undefined } }, [word]);
			const host = await start([one], { ...application, holdLimitMs: 60_000 }, withScripts());
			await toFrozen(host);
			await writeFile(word, "");
			const report = await host.report();
			expect(report.error?.code).toBe("script-hold-lost");
			expect(await isWritable(one)).toBe(true);
		});

		test("a bad drop-in file fails the job by name", async () => {
			await configure({ shop: { version: 1, application: "shop", pre: { command: ["relative"] } } });
			const host = await start([one], application, withScripts());
			const report = await host.report();
			expect(report.error?.code).toBe("script-config-invalid");
			expect(report.error?.message).toContain("shop.json");
			expect(report.error?.message).toContain("pre.command");
		});

		test("a script that others could change is not run", async () => {
			await configure({ pair: pair("pair", 1) });
			await execa("chmod", ["o+w", join(scripts, "writes-line.sh")]);
			const host = await start([one], application, withScripts());
			await host.event("prepared");
			host.tell({ type: "freeze", jobId: host.jobId });
			expect((await host.report()).error?.code).toBe("script-untrusted");
			expect(await lines()).toEqual([]);
		});

		test("asked for file-system, no script is run", async () => {
			await configure({ pair: pair("pair", 1) });
			const host = await start([one], {}, withScripts());
			await toFrozen(host);
			expect(await takeSnapshot(host, [one])).toMatchObject({ achieved: "file-system", because: [], scripts: [] });
			expect(await lines()).toEqual([]);
		});

		const application: Partial<OrderInput> = { level: "application" };

		async function configure(files: Record<string, Record<string, unknown>>, words?: string[]): Promise<void> {
			scripts = await mkdtemp(join(dir, "scripts-"));
			await cp(join(import.meta.dirname, "../fixtures/scripts"), scripts, { recursive: true });
			await execa("chmod", ["-R", "u+rwX,go-w", scripts]);
			await execa("chown", ["-R", "0:0", scripts]);
			await mkdir(join(scripts, "scripts.d"));
			for (const [name, content] of Object.entries(files)) {
				const text = JSON.stringify(content)
					.replaceAll("SCRIPTS", scripts)
					.replaceAll('"WORDS"', (words ?? [join(scripts, "lines"), name]).map((word) => JSON.stringify(word)).join());
				await writeFile(join(scripts, "scripts.d", `${name}.json`), text);
			}
		}

		function pair(name: string, position: number) {
			const command = ["SCRIPTS/writes-line.sh", "WORDS"];
			return { version: 1, application: name, order: position, pre: { command }, post: { command } };
		}

		function session(script: string, position: number): Record<string, unknown> {
			return {
				version: 1,
				application: "session",
				order: position,
				session: { command: [`SCRIPTS/${script}`, "WORDS"] },
			};
		}

		function withScripts(): Partial<TestHostOptions> {
			return { request: { scriptsFolder: join(scripts, "scripts.d") } };
		}

		async function lines(): Promise<string[]> {
			const text = await readFile(join(scripts, "lines"), "utf8").catch(() => "");
			return text.split("\n").slice(0, -1);
		}
	});

	async function make(fsType: LoopFileSystemType, below = dir): Promise<LoopFileSystem> {
		const sizeMiB = fsType === "ext4" ? 32 : 320;
		const made = await makeLoopFileSystem({ dir: below, fsType, sizeMiB, name: `${fsType}-${count++}` });
		defer(() => made[Symbol.asyncDispose]());
		return made;
	}

	async function start(
		disks: readonly LoopFileSystem[],
		changes: Partial<OrderInput> = {},
		options: Partial<TestHostOptions> = {},
	): Promise<TestHost> {
		const host = await startTestHost({
			order: order({
				disks: { include: disks.flatMap((disk) => disk.devices.map((path) => path.slice(5))) },
				...changes,
			}),
			...options,
		});
		defer(() => host[Symbol.asyncDispose]());
		return host;
	}

	function order(changes: Partial<OrderInput>): OrderInput {
		return {
			jobId: `job-${count++}`,
			level: "file-system",
			acceptLevel: changes.level === "crash" ? "crash" : "file-system",
			disks: { include: [nameOf(one)] },
			holdLimitMs: 5_000,
			...changes,
		} as OrderInput;
	}

	function defer(work: () => unknown): void {
		const stack = undo[0] ?? new AsyncDisposableStack();
		if (undo.length === 0) undo.push(stack);
		stack.defer(async () => {
			await work();
		});
	}
});

async function inPhase(host: TestHost, phase: string): Promise<void> {
	while (!host.events.some((event) => event.type === "phase" && event.phase === phase)) await sleep(1);
}

async function toFrozen(host: TestHost): Promise<void> {
	await host.event("prepared");
	host.tell({ type: "freeze", jobId: host.jobId });
	await host.event("frozen");
}

function nameOf(disk: LoopFileSystem): string {
	return disk.device.slice("/dev/".length);
}

function outcomes(disks: readonly LoopFileSystem[]) {
	return disks.map((disk) => ({ name: nameOf(disk), ok: true, snapshotId: "s", provider: "test" }));
}

async function takeSnapshot(
	host: TestHost,
	disks: readonly LoopFileSystem[],
	change: { uuid?: string; described?: [] } = {},
): Promise<Report> {
	const { jobId } = host;
	host.tell({ type: "done", jobId, disks: outcomes(disks) });
	const described = disks.map((disk) => ({
		name: nameOf(disk),
		identity: { fileSystems: [{ fsType: disk.fsType, uuid: change.uuid ?? disk.uuid, offsetBytes: 0 }] },
	}));
	host.tell({ type: "described", jobId, disks: change.described ?? described });
	return await host.report();
}

/** A writer that a freeze holds up can't be ended; it goes on with the thaw. */
async function isWritable(disk: LoopFileSystem): Promise<boolean> {
	const path = join(disk.mountPoint, "probe");
	const child = spawn("sh", ["-c", `echo x > '${path}' && rm -f '${path}'`], { stdio: "ignore" });
	const exit = once(child, "exit").then(([status]: unknown[]) => status === 0);
	return await Promise.race([exit, sleep(400, false)]);
}

async function childrenOf(host: TestHost): Promise<string[]> {
	const folder = `/proc/${host.process.pid}/task`;
	const texts = await Promise.all(readdirSync(folder).map((id) => readFile(`${folder}/${id}/children`, "utf8")));
	return texts.join(" ").split(" ").filter(Boolean);
}

async function threadStatesOf(host: TestHost): Promise<string[]> {
	const folder = `/proc/${host.process.pid}/task`;
	const texts = await Promise.all(readdirSync(folder).map((id) => readFile(`${folder}/${id}/stat`, "latin1")));
	return texts.map((text) => text.slice(text.lastIndexOf(")") + 2, text.lastIndexOf(")") + 3));
}

async function untilWritable(disk: LoopFileSystem): Promise<void> {
	while (!(await isWritable(disk)));
}

import { existsSync, readdirSync } from "node:fs";
import { mkdir, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { beforeAll, describe, expect, test } from "vitest";
import { thawFromLedgers } from "../../platform/linux/rescue-thaw.ts";
import { freeze, type LoopFileSystem, makeLoopFileSystem, requireTools, thaw } from "../fixtures/loop-file-system.ts";
import { isWritable, takeSnapshot, toFrozen, untilWritable } from "../fixtures/snapshot-asker.ts";
import { useSnapshotBench } from "../fixtures/snapshot-bench.ts";
import type { TestHost } from "../fixtures/snapshot-host.ts";

const missing = requireTools("root", "mkfs.ext4", "losetup", "mount", "fsfreeze");

describe.skipIf(missing)(`nothing stays frozen, whoever of a job fails${missing ? `: ${missing}` : ""}`, () => {
	const bench = useSnapshotBench();
	const { make, start, defer } = bench;
	let one: LoopFileSystem;
	beforeAll(() => {
		one = bench.one;
	});

	describe("nothing stays frozen", () => {
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
		const host = await start([one], { holdLimitMs: 8_000 }, { request: { statusFile } });
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
});

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

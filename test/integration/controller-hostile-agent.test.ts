/** An agent that lies, and images that change under the copy: what the controller must not take for good. */
import { mkdir, open, readdir, readFile, rename, rm, truncate } from "node:fs/promises";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { execa } from "execa";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { AgentMessage } from "../../contracts/controller-messages.ts";
import type { PlannedDisk } from "../../contracts/hold-protocol.ts";
import { openRecoveryPointFolders } from "../../controller/recovery-points.ts";
import type { FakeAgent, FakeAgentOptions } from "../fakes/fake-agent.ts";
import { makeFakeReport } from "../fakes/fake-report.ts";
import {
	addFakeAgent,
	type ControllerRun,
	makeImage,
	makeTestFolder,
	startController,
} from "../fixtures/controller-run.ts";

const mib = 1024 * 1024;
let folder: Awaited<ReturnType<typeof makeTestFolder>>;
let controller: ControllerRun;
let image: string;
const agents: FakeAgent[] = [];

beforeEach(async () => {
	folder = await makeTestFolder();
	controller = await startController(join(folder.path, "state"), { limits: { lateReportMs: 300 } });
	image = await makeImage(join(folder.path, "a.img"), 64 * mib, [
		{ offset: 0, length: 3 * mib },
		{ offset: 40 * mib, length: 5 * mib },
	]);
});
afterEach(async () => {
	for (const agent of agents.splice(0)) await agent[Symbol.asyncDispose]();
	await controller[Symbol.asyncDispose]();
	await folder[Symbol.asyncDispose]();
});

async function addAgent(options: Partial<FakeAgentOptions> = {}, images: Record<string, string> = { vda: image }) {
	const agent = await addFakeAgent(controller, images, options);
	agents.push(agent);
	return agent;
}
type Body = Parameters<ControllerRun["client"]["orderSnapshot"]>[1];
async function order(agent: FakeAgent, body: Body = {}): Promise<string> {
	return (await controller.client.orderSnapshot(agent.agentId, body)).jobId;
}
async function snapshot(agent: FakeAgent, body: Body = {}) {
	return controller.client.waitForJob(await order(agent, body));
}
const folders = () => readdir(join(folder.path, "state", "recovery-points"));
const say = (agent: FakeAgent, message: AgentMessage | object) => agent.sendRaw(JSON.stringify(message));
const disk = (name: string, serial?: string): PlannedDisk => ({
	name,
	sizeBytes: 1,
	fileSystemUuids: [],
	...(serial === undefined ? {} : { serial }),
});

describe("a label", () => {
	const asked = (level: "crash" | "file-system") => ({ level, acceptLevel: "crash" as const });

	test.each(["crash", "file-system"] as const)("is not above %s when that was asked for", async (level) => {
		const agent = await addAgent({ silentOn: ["report"] });
		const jobId = await order(agent, asked(level));
		await agent.until("described");
		agent.report(makeFakeReport({ jobId, ...asked(level) }, "application"));
		const job = await controller.client.waitForJob(jobId);
		expect(job).toMatchObject({ state: "done", level });
		expect((await controller.client.readRecoveryPoint(job.recoveryPointId as string)).level).toBe(level);
	});

	test("is not above crash when the order was lowered to that", async () => {
		const large = await makeImage(join(folder.path, "b.img"), 300 * mib, [{ offset: 0, length: 300 * mib }]);
		const agent = await addAgent({ silentOn: ["report"] }, { vda: large });
		const jobId = await order(agent, { holdLimitMs: 100, acceptLevel: "crash" });
		await agent.until("release", 40_000);
		const lowered = `${jobId}.crash`;
		agent.report(makeFakeReport({ jobId, level: "application", acceptLevel: "crash" }, "none"));
		await agent.until("described", 40_000);
		agent.report(makeFakeReport({ jobId: lowered, level: "crash", acceptLevel: "crash" }, "application"));
		expect(await controller.client.waitForJob(jobId)).toMatchObject({ state: "done", level: "crash" });
	});

	test("is that of the first report, when a better one comes while the copies are made", async () => {
		const large = await makeImage(join(folder.path, "b.img"), 300 * mib, [{ offset: 0, length: 300 * mib }]);
		const agent = await addAgent({ silentOn: ["frozen", "report"] }, { vda: large });
		const jobId = await order(agent, { acceptLevel: "crash" });
		await agent.until("frozen");
		say(agent, { type: "frozen", jobId, leftMs: 9_000, worth: "application" });
		agent.report(makeFakeReport({ jobId, level: "application", acceptLevel: "crash" }, "crash"));
		agent.report(makeFakeReport({ jobId, level: "application", acceptLevel: "crash" }, "application"));
		const job = await controller.client.waitForJob(jobId);
		expect(job).toMatchObject({ state: "done", level: "crash", report: { achieved: "crash" } });
		const point = await controller.client.readRecoveryPoint(job.recoveryPointId as string);
		expect(point).toMatchObject({ level: "crash", report: { achieved: "crash" } });
	});
});

describe("words that can't be", () => {
	test("frozen before freeze was said ends the job, and nothing is copied", async () => {
		const agent = await addAgent({ silentOn: ["prepared", "frozen"] });
		const jobId = await order(agent);
		await agent.until("order");
		say(agent, { type: "frozen", jobId, leftMs: 9_000, worth: "application" });
		say(agent, { type: "prepared", jobId, disks: [disk("vda")], holdLimitMs: 10_000 });
		const job = await controller.client.waitForJob(jobId);
		expect(job).toMatchObject({ state: "failed", error: { code: "message-invalid" } });
		expect(agent.story).not.toContain("freeze");
		expect(await folders()).toEqual([]);
	});

	test.each([
		["one disk five thousand times", Array(5_000).fill(disk("vda", "S1")), "message-invalid"],
		["two disks of one serial", [disk("x", "S1"), disk("y", "S1"), disk("vda")], "message-invalid"],
		["fewer disks than ordered", [disk("vda")], "disk-unknown"],
	])("%s are no plan", async (_, disks, code) => {
		const agent = await addAgent({ silentOn: ["prepared"] }, { vda: image, "serial:S1": `${image}.2` });
		const jobId = await order(agent, { disks: { include: ["vda", "serial:S1"] } });
		await agent.until("order");
		say(agent, { type: "prepared", jobId, disks, holdLimitMs: 10_000 });
		expect(await controller.client.waitForJob(jobId)).toMatchObject({ state: "failed", error: { code } });
		expect(agent.story).not.toContain("freeze");
	});

	test("thousands of disks that are not mapped make a short error", async () => {
		const agent = await addAgent({ silentOn: ["prepared"] });
		const jobId = await order(agent, { disks: "all" });
		await agent.until("order");
		const disks = Array.from({ length: 5_000 }, (_, index) => disk(`${index}`.padStart(500, "x")));
		say(agent, { type: "prepared", jobId, disks, holdLimitMs: 10_000 });
		const job = await controller.client.waitForJob(jobId);
		expect(job).toMatchObject({ state: "failed", error: { code: "disk-not-mapped" } });
		expect(JSON.stringify(job.error).length).toBeLessThan(20_000);
	});

	test("a hold that is longer than ordered counts as ordered", async () => {
		const large = await makeImage(join(folder.path, "b.img"), 300 * mib, [{ offset: 0, length: 300 * mib }]);
		const agent = await addAgent({ silentOn: ["prepared"] }, { vda: large });
		const jobId = await order(agent, { holdLimitMs: 100 });
		await agent.until("order");
		say(agent, { type: "prepared", jobId, disks: [disk("vda")], holdLimitMs: 1e15 });
		expect(await controller.client.waitForJob(jobId)).toMatchObject({ error: { code: "copy-too-slow" } });
		const eager = await addAgent({ silentOn: ["frozen"] });
		const second = await order(eager);
		await eager.until("frozen");
		say(eager, { type: "frozen", jobId: second, leftMs: 1e15, worth: "file-system" });
		expect(await controller.client.waitForJob(second)).toMatchObject({ state: "done" });
	});
});

describe("a report that can't be read", () => {
	const unreadable = (jobId: string, sequence: number) => ({
		type: "report",
		sequence,
		report: {
			...makeFakeReport({ jobId, level: "application", acceptLevel: "crash" }, "crash"),
			because: ["sunspots"],
		},
	});

	test("is kept as it came, said in the log and acknowledged, so that it blocks no other", async () => {
		const agent = await addAgent();
		for (let sequence = 101; sequence <= 130; sequence += 1) say(agent, unreadable("job-of-before", sequence));
		await expect
			.poll(() => agent.heard.filter(({ type }) => type === "ack"))
			.toEqual(Array.from({ length: 30 }, (_, index) => ({ type: "ack", sequence: 101 + index })));
		expect(controller.lines.filter((line) => line.startsWith("report rejected"))).toHaveLength(30);
		expect(await snapshot(agent)).toMatchObject({ state: "done" });
		await controller.stop();
		const kept = await readFile(join(folder.path, "state", "controller.sqlite"), "latin1");
		expect(kept).toContain("sunspots");
		controller = await startController(join(folder.path, "state"));
	});

	test("ends its job at once, and no image stays", async () => {
		const agent = await addAgent({ silentOn: ["report"] });
		const jobId = await order(agent, { acceptLevel: "crash" });
		await agent.until("described");
		say(agent, unreadable(jobId, 7));
		const job = await controller.client.waitForJob(jobId);
		expect(job).toMatchObject({ state: "failed", error: { code: "message-invalid" } });
		expect(job.error?.message).toContain("because.0");
		expect(await folders()).toEqual([]);
	});

	test("of another agent's job touches nothing of that", async () => {
		const victim = await addAgent({ silentOn: ["report"] });
		const other = await addAgent();
		const jobId = await order(victim, { acceptLevel: "crash" });
		await victim.until("described");
		say(other, unreadable(jobId, 7));
		other.report(makeFakeReport({ jobId, level: "application", acceptLevel: "crash" }, "application"));
		await other.until("ack");
		victim.report(makeFakeReport({ jobId, level: "application", acceptLevel: "crash" }, "crash"));
		expect(await controller.client.waitForJob(jobId)).toMatchObject({ state: "done", level: "crash" });
	});
});

describe("an image", () => {
	test("that is a pipe, a device without an end or a folder is refused and holds nothing up", async () => {
		const pipe = join(folder.path, "pipe");
		await execa("mkfifo", [pipe]);
		await mkdir(join(folder.path, "folder"));
		const agent = await addAgent();
		for (const path of [pipe, "/dev/zero", join(folder.path, "folder"), `${pipe}/../pipe`, "/a\0b"]) {
			await controller.client.mapDisks(agent.agentId, [{ name: "vda", image: path }]);
			expect(await snapshot(agent)).toMatchObject({ state: "failed", error: { code: "image-unreadable" } });
		}
		expect(agent.story).not.toContain("frozen");
	});

	test.each([
		["shrinks", () => truncate(image, 20 * mib)],
		["grows", () => truncate(image, 80 * mib)],
		["vanishes", () => rm(image)],
		[
			"is replaced",
			async () => {
				await rename(await makeImage(`${image}.new`, 64 * mib, [{ offset: 0, length: mib }]), image);
			},
		],
	])("that %s after it was prepared is no snapshot", async (_, change) => {
		const agent = await addAgent({ whenFrozen: async () => void (await change()) });
		expect(await snapshot(agent)).toMatchObject({ state: "failed", error: { code: "snapshot-failed" } });
		expect(agent.story).not.toContain("done");
		expect(await folders()).toEqual([]);
	});

	test("that only changes inside is one (control)", async () => {
		const write = async () => {
			await using file = await open(image, "r+");
			await file.write(Buffer.alloc(mib, 1), 0, mib, 0);
		};
		expect(await snapshot(await addAgent({ whenFrozen: write }))).toMatchObject({ state: "done" });
	});
});

describe("what an earlier life left", () => {
	test("a recovery point whose removal was cut short is none, and its images go", async () => {
		const job = await snapshot(await addAgent());
		await controller.stop();
		const { withdraw } = await openRecoveryPointFolders(join(folder.path, "state", "recovery-points"));
		await withdraw(job.recoveryPointId as string);
		expect(await folders()).toHaveLength(1);
		controller = await startController(join(folder.path, "state"));
		expect(await controller.client.listRecoveryPoints()).toEqual([]);
		expect(await folders()).toEqual([]);
	});

	test("copies of a verification go, and half an operator's identity is made whole", async () => {
		const state = join(folder.path, "state");
		await controller.stop();
		await mkdir(join(state, "scratch", "verify-abcdef"));
		await makeImage(join(state, "scratch", "verify-abcdef", "copy-0.img"), mib, []);
		await rm(join(state, "operator", "cert.pem"));
		controller = await startController(state);
		expect(await readdir(join(state, "scratch"))).toEqual([]);
		expect(await controller.client.listAgents()).toEqual([]);
	});

	test("a database of the first schema is brought up to date", async () => {
		const state = join(folder.path, "state");
		await controller.stop();
		{
			using database = new DatabaseSync(join(state, "controller.sqlite"));
			for (const table of ["rejected_reports", "enrolment_requests", "credentials", "audit"])
				database.exec(`drop table ${table}`);
			for (const column of ["revoked", "ticket", "ticket_given", "ticket_counter"])
				database.exec(`alter table agents drop column ${column}`);
			database.exec("pragma user_version = 1");
		}
		controller = await startController(state);
		const agent = await addAgent();
		say(agent, { type: "report", sequence: 1, report: {} });
		await agent.until("ack");
	});
});

import { createHash } from "node:crypto";
import { cp, open, readdir, readFile, rm, stat, truncate } from "node:fs/promises";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { renderStep } from "../../command-line/render-job.ts";
import type { ControllerJob } from "../../contracts/controller-messages.ts";
import type { FakeAgent, FakeAgentOptions } from "../fakes/fake-agent.ts";
import { makeFakeReport } from "../fakes/fake-report.ts";
import {
	addFakeAgent,
	type ControllerRun,
	makeImage,
	makeTestFolder,
	startController,
} from "../fixtures/controller-run.ts";
import { poll } from "../fixtures/poll.ts";

const mib = 1024 * 1024;
let folder: Awaited<ReturnType<typeof makeTestFolder>>;
let controller: ControllerRun;
let images: Record<string, string>;
let stateDir: string;
const agents: FakeAgent[] = [];

beforeEach(async () => {
	folder = await makeTestFolder();
	stateDir = join(folder.path, "state");
	controller = await startController(stateDir, { limits: { lateReportMs: 1_000, startWithinMs: 500, answerMs: 500 } });
	images = {
		vda: await makeImage(join(folder.path, "a.img"), 64 * mib, [
			{ offset: 0, length: 3 * mib },
			{ offset: 40 * mib + 4096, length: 5 * mib },
		]),
		vdb: await makeImage(join(folder.path, "b.img"), 16 * mib + 512, [{ offset: 16 * mib, length: 512 }]),
	};
});
afterEach(async () => {
	for (const agent of agents.splice(0)) {
		expect(agent.violations).toEqual([]);
		await agent[Symbol.asyncDispose]();
	}
	await controller[Symbol.asyncDispose]();
	await folder[Symbol.asyncDispose]();
});

async function addAgent(options: Partial<FakeAgentOptions> = {}, which = images): Promise<FakeAgent> {
	const agent = await addFakeAgent(controller, which, options);
	agents.push(agent);
	return agent;
}
async function snapshot(agent: FakeAgent, body: Parameters<ControllerRun["client"]["orderSnapshot"]>[1] = {}) {
	const { jobId } = await controller.client.orderSnapshot(agent.agentId, body);
	return controller.client.waitForJob(jobId);
}
async function until(jobId: string, state: ControllerJob["state"]): Promise<void> {
	await expect.poll(async () => (await controller.client.readJob(jobId)).state, { timeout: 5_000 }).toBe(state);
}
const folders = () => readdir(join(stateDir, "recovery-points"));
const digest = async (path: string) =>
	createHash("sha256")
		.update(await readFile(path))
		.digest("hex");

describe("a snapshot from order to recovery point", () => {
	test("every mapped disk is copied while frozen, byte for byte, and holes stay holes", async () => {
		const agent = await addAgent({ worth: "application" });
		const states: string[] = [];
		const { jobId } = await controller.client.orderSnapshot(agent.agentId, {});
		const job = await controller.client.waitForJob(jobId, { onChange: ({ state }) => states.push(state) });
		expect(job).toMatchObject({ state: "done", level: "application", report: { jobId, achieved: "application" } });
		expect(job.error).toBeUndefined();
		expect(job.orderToFrozenMs).toBeGreaterThan(0);
		expect(states.at(-1)).toBe("done");
		const story = agent.story.filter((word) => word !== "welcome");
		expect(story).toEqual(["order", "freeze", "frozen", "done", "thaw:done", "described", "ended:application", "ack"]);

		const point = await controller.client.readRecoveryPoint(job.recoveryPointId as string);
		expect(point).toMatchObject({ level: "application", jobId, agentId: agent.agentId, machine: { hostname: "fake" } });
		expect(point.disks.map(({ name, method }) => [name, method])).toEqual([
			["vda", "copy"],
			["vdb", "copy"],
		]);
		for (const disk of point.disks) {
			const path = join(stateDir, "recovery-points", point.id, disk.image);
			expect(await digest(path)).toBe(await digest(images[disk.name] as string));
			expect((await stat(path)).mode & 0o777).toBe(0o600);
		}
		const copied = await stat(join(stateDir, "recovery-points", point.id, point.disks[0]?.image as string));
		expect(copied.size).toBe(64 * mib);
		expect(copied.blocks * 512).toBeLessThan(9 * mib);
		expect(await controller.client.listRecoveryPoints(agent.agentId)).toEqual([point]);
		expect(await controller.client.listRecoveryPoints("another")).toEqual([]);
	});

	test("the agent's verdict is the label: it is lowered when it says so, never raised", async () => {
		const agent = await addAgent({ worth: "file-system" });
		const job = await snapshot(agent, { level: "application", acceptLevel: "crash" });
		expect(job).toMatchObject({ state: "done", level: "file-system" });
		expect((await controller.client.readRecoveryPoint(job.recoveryPointId as string)).level).toBe("file-system");
	});

	test("a verdict below the accepted level fails the job and leaves no images", async () => {
		const agent = await addAgent({ worth: "file-system" });
		const job = await snapshot(agent, { level: "application", acceptLevel: "application" });
		expect(job).toMatchObject({ state: "failed", error: { code: "level-unreachable" } });
		expect(await folders()).toEqual([]);
	});

	test("an order of level crash takes the same path", async () => {
		const agent = await addAgent();
		const job = await snapshot(agent, { level: "crash" });
		expect(job).toMatchObject({ state: "done", level: "crash" });
	});

	test("only the disks of the order are taken", async () => {
		const agent = await addAgent();
		const job = await snapshot(agent, { disks: { include: ["vdb"] } });
		const point = await controller.client.readRecoveryPoint(job.recoveryPointId as string);
		expect(point.disks.map(({ name }) => name)).toEqual(["vdb"]);
	});

	test("verify is run once for two who ask at the same time, and its finding is kept", async () => {
		const agent = await addAgent();
		const { recoveryPointId = "" } = await snapshot(agent);
		await expect(controller.client.readVerification(recoveryPointId)).rejects.toMatchObject({ code: "not-found" });
		const [first, second] = await Promise.all([
			controller.client.verifyRecoveryPoint(recoveryPointId),
			controller.client.verifyRecoveryPoint(recoveryPointId),
		]);
		expect(first).toEqual(second);
		expect(await controller.client.readVerification(recoveryPointId)).toEqual(first);
	});
});

describe("what does not begin", () => {
	test("a disk without an image releases the agent before it froze", async () => {
		const agent = await addAgent();
		await controller.client.mapDisks(agent.agentId, [{ name: "vda", image: images["vda"] as string }]);
		const job = await snapshot(agent, { disks: "all" });
		expect(job).toMatchObject({ state: "failed", error: { code: "disk-not-mapped", details: { disks: ["vdb"] } } });
		expect(agent.story).toContain("release");
		expect(agent.story).not.toContain("frozen");
		expect(await folders()).toEqual([]);
	});

	test.each([
		["missing", async () => rm(images["vdb"] as string)],
		["empty", async () => truncate(images["vdb"] as string)],
	])("an image that is %s is image-unreadable before the freeze", async (_, spoil) => {
		const agent = await addAgent();
		await spoil();
		const job = await snapshot(agent);
		expect(job).toMatchObject({ state: "failed", error: { code: "image-unreadable" } });
		expect(agent.story).not.toContain("frozen");
	});

	test("a refusal of the agent is the error of the job, with the agent's code", async () => {
		const agent = await addAgent({ refuseWith: "exclusive-operation" });
		expect(await snapshot(agent)).toMatchObject({ state: "failed", error: { code: "exclusive-operation" } });
		expect(agent.story).not.toContain("release");
	});

	test("an agent that does not answer the order is told that nobody waits any more", async () => {
		const agent = await addAgent({ silentOn: ["accepted"] });
		expect(await snapshot(agent)).toMatchObject({ state: "failed", error: { code: "deadline-passed" } });
		await agent.until("cancel");
	});

	test("a second order while one runs is job-running", async () => {
		const agent = await addAgent({ silentOn: ["prepared"] });
		const { jobId } = await controller.client.orderSnapshot(agent.agentId, {});
		await expect(controller.client.orderSnapshot(agent.agentId, {})).rejects.toMatchObject({ code: "job-running" });
		await controller.client.cancelJob(jobId);
		await controller.client.waitForJob(jobId);
	});
});

describe("a copy that does not fit the hold", () => {
	// 300 MiB can't be copied in what a hold of 100 ms leaves: 50 ms.
	beforeEach(async () => {
		images = { vda: await makeImage(join(folder.path, "large.img"), 300 * mib, [{ offset: 0, length: 300 * mib }]) };
	});

	test("is refused before the freeze", async () => {
		const agent = await addAgent();
		const job = await snapshot(agent, { holdLimitMs: 100 });
		expect(job).toMatchObject({ state: "failed", error: { code: "copy-too-slow", retryable: false } });
		expect(job.error?.details?.["predictedMs"]).toBeGreaterThan(50);
		expect(agent.story).not.toContain("frozen");
		expect(await folders()).toEqual([]);
	});

	test("goes on at level crash when the order accepts that, and says so", async () => {
		const agent = await addAgent();
		const job = await snapshot(agent, { holdLimitMs: 100, acceptLevel: "crash" });
		expect(job).toMatchObject({
			state: "done",
			level: "crash",
			lowered: { from: "application", code: "copy-too-slow" },
			report: { jobId: `${job.jobId}.crash`, achieved: "crash", requested: "crash" },
		});
		const orders = agent.heard.filter((one) => one.type === "order").map(({ order }) => order.level);
		expect(orders).toEqual(["application", "crash"]);
		expect((await controller.client.readRecoveryPoint(job.recoveryPointId as string)).jobId).toBe(job.jobId);
	});

	test("because the freeze left too little of it: the copies stop and the agent is released before its deadline", async () => {
		const agent = await addAgent({ leftMs: 40 });
		const job = await snapshot(agent);
		expect(job).toMatchObject({ state: "failed", error: { code: "hold-expired" } });
		expect(agent.story).toContain("release");
		expect(agent.story).toContain("thaw:snapshot-failed");
		expect(agent.story).not.toContain("done");
		expect(await folders()).toEqual([]);
	});
});

describe("while the copies are made", () => {
	// 1 GiB takes some tenths of a second.
	beforeEach(async () => {
		const path = join(folder.path, "huge.img");
		await using file = await open(path, "w");
		const piece = Buffer.alloc(32 * mib, 7);
		for (let at = 0; at < 32; at += 1) await file.write(piece, 0, piece.length, at * piece.length);
		images = { vda: path };
	});

	async function orderAndCopy(agent: FakeAgent): Promise<string> {
		const { jobId } = await controller.client.orderSnapshot(agent.agentId, { holdLimitMs: 60_000 });
		await agent.until("frozen");
		expect((await controller.client.readJob(jobId)).state).toBe("taking");
		return jobId;
	}

	test("the copy is made whole when nothing comes between (control)", async () => {
		const agent = await addAgent();
		const jobId = await orderAndCopy(agent);
		expect(await controller.client.waitForJob(jobId)).toMatchObject({ state: "done" });
	});

	test("a cancel lets the agent go at once", async () => {
		const agent = await addAgent();
		const jobId = await orderAndCopy(agent);
		await controller.client.cancelJob(jobId);
		expect(await controller.client.waitForJob(jobId)).toMatchObject({ state: "failed", error: { code: "cancelled" } });
		expect(agent.story).toContain("thaw:cancelled");
		expect(agent.story).not.toContain("done");
		expect(await folders()).toEqual([]);
	});

	test("a stop of the controller lets the agent go before it ends", async () => {
		const agent = await addAgent();
		await orderAndCopy(agent);
		await controller.stop();
		expect(agent.story).toContain("thaw:stopping");
		expect(agent.story).not.toContain("done");
		expect(await folders()).toEqual([]);
	});

	test("an agent that is lost stops them", async () => {
		const agent = await addAgent();
		const jobId = await orderAndCopy(agent);
		await agent.disconnect();
		expect(await controller.client.waitForJob(jobId)).toMatchObject({
			state: "failed",
			error: { code: "agent-offline" },
		});
		expect(await folders()).toEqual([]);
	});
});

describe("cancel", () => {
	test.each([
		["ordered", ["accepted"]],
		["preparing", ["prepared"]],
		["freezing", ["frozen"]],
		["thawing", ["thawed", "report"]],
		["reporting", ["report"]],
	] as const)("while %s: the job ends as cancelled, nothing stays frozen, no images stay", async (state, silentOn) => {
		const agent = await addAgent({ silentOn });
		const { jobId } = await controller.client.orderSnapshot(agent.agentId, {});
		await until(jobId, state);
		const answer = await controller.client.cancelJob(jobId);
		expect(answer.jobId).toBe(jobId);
		const job = await controller.client.waitForJob(jobId);
		expect(job).toMatchObject({ state: "failed", error: { code: "cancelled" } });
		expect(agent.story).toContain("cancel");
		expect(agent.frozen).toBe(false);
		expect(await folders()).toEqual([]);
	});

	test("of a job that has ended changes nothing", async () => {
		const agent = await addAgent();
		const job = await snapshot(agent);
		expect(await controller.client.cancelJob(job.jobId)).toEqual(job);
	});
});

describe("an agent whose kernel does not let go", () => {
	const error = { code: "stuck", message: "still frozen: /srv" };
	const sayStuck = (agent: FakeAgent, jobId: string) =>
		agent.sendRaw(JSON.stringify({ type: "stuck", jobId, fileSystems: ["/srv"], error }));

	test("is shown at once as stuck, while it freezes, and while a job is let go", async () => {
		const agent = await addAgent({ silentOn: ["frozen", "thawed", "report"] });
		const { jobId } = await controller.client.orderSnapshot(agent.agentId, {});
		const seen: string[] = [];
		const following = controller.client.followJob(jobId, { onChange: (job) => void seen.push(renderStep(job)) });
		await agent.until("frozen");
		expect((await controller.client.readJob(jobId)).error).toBeUndefined();
		sayStuck(agent, jobId);
		sayStuck(agent, jobId);
		await poll(() => controller.client.readJob(jobId)).toMatchObject({ state: "freezing", error });
		await controller.client.cancelJob(jobId);
		const again = { ...error, message: "still frozen: /srv/nested" };
		agent.sendRaw(JSON.stringify({ type: "stuck", jobId, fileSystems: ["/srv/nested"], error: again }));
		await poll(() => controller.client.readJob(jobId)).toMatchObject({ state: "thawing", error: again });
		await following;
		expect(seen.filter((step) => step === "freezing, stuck: still frozen: /srv.")).toHaveLength(1);
	});

	test("and is no longer, when it did", async () => {
		const agent = await addAgent({ silentOn: ["frozen", "thawed", "report"] });
		const { jobId } = await controller.client.orderSnapshot(agent.agentId, {});
		await agent.until("frozen");
		await controller.client.cancelJob(jobId);
		await poll(() => controller.client.readJob(jobId)).toMatchObject({ state: "thawing" });
		sayStuck(agent, jobId);
		await poll(() => controller.client.readJob(jobId)).toMatchObject({ error });
		agent.sendRaw(JSON.stringify({ type: "thawed", jobId }));
		expect(await controller.client.waitForJob(jobId)).toMatchObject({ state: "failed", error: { code: "cancelled" } });
	});
});

describe("an agent that goes away", () => {
	test("while frozen: the job fails at once, and its report is added when it is back", async () => {
		const agent = await addAgent({ silentOn: ["frozen"] });
		const { jobId } = await controller.client.orderSnapshot(agent.agentId, {});
		await agent.until("frozen");
		await agent.disconnect();
		const job = await controller.client.waitForJob(jobId);
		expect(job).toMatchObject({ state: "failed", error: { code: "agent-offline" } });
		expect(job.report).toBeUndefined();
		expect(await folders()).toEqual([]);
		await agent.connect();
		await agent.until("ack");
		const late = await controller.client.readJob(jobId);
		expect(late).toMatchObject({ state: "failed", level: "none", report: { error: { code: "asker-lost" } } });
		expect(agent.outbox.size).toBe(0);
	});

	test("while frozen, without a word: noticed by the heartbeat", async () => {
		const agent = await addAgent({ silentOn: ["frozen"] });
		const { jobId } = await controller.client.orderSnapshot(agent.agentId, {});
		await agent.until("frozen");
		agent.hang();
		const job = await controller.client.waitForJob(jobId);
		expect(job).toMatchObject({ state: "failed", error: { code: "agent-offline" } });
	});

	test("after done, and the agent comes back without the job: it ends, and does not hold up the next order", async () => {
		const own = join(folder.path, "own");
		await using impatient = await startController(own, { limits: { returnedMs: 300 } });
		await using agent = await addFakeAgent(impatient, images, { silentOn: ["report"] });
		const { jobId } = await impatient.client.orderSnapshot(agent.agentId, {});
		await agent.until("ended:file-system");
		await agent.disconnect();
		agent.forget();
		await agent.connect();
		const job = await impatient.client.waitForJob(jobId);
		expect(job).toMatchObject({ state: "failed", error: { code: "interrupted" } });
		expect(job.error?.message).toMatch(/came back without the job/);
	});

	test("after done: the job waits, and the report makes it whole", async () => {
		const agent = await addAgent({ silentOn: ["report"] });
		const { jobId } = await controller.client.orderSnapshot(agent.agentId, {});
		await agent.until("ended:file-system");
		await agent.disconnect();
		await agent.connect();
		agent.report(makeFakeReport({ jobId, level: "application", acceptLevel: "file-system" }, "file-system"));
		const job = await controller.client.waitForJob(jobId);
		expect(job).toMatchObject({ state: "done", level: "file-system" });
		expect(job.recoveryPointId).toBeDefined();
	});
});

describe("reports and job ids", () => {
	test("a report that comes twice has one effect, and a later one cannot raise the label", async () => {
		const agent = await addAgent();
		const job = await snapshot(agent);
		const raised = makeFakeReport(
			{ jobId: job.jobId, level: "application", acceptLevel: "file-system" },
			"application",
		);
		agent.report(raised);
		await expect.poll(() => agent.outbox.size).toBe(0);
		expect(await controller.client.readJob(job.jobId)).toEqual(job);
	});

	test("a job id that is repeated gets the same job; for another order or agent it is a conflict", async () => {
		const agent = await addAgent();
		const other = await addAgent();
		const body = { jobId: "nightly-1", holdLimitMs: 9_000 };
		const job = await snapshot(agent, body);
		expect(await controller.client.orderSnapshot(agent.agentId, body)).toEqual(job);
		expect(agent.story.filter((word) => word === "order")).toHaveLength(1);
		await expect(controller.client.orderSnapshot(other.agentId, body)).rejects.toMatchObject({ code: "job-conflict" });
		await expect(controller.client.orderSnapshot(agent.agentId, { ...body, holdLimitMs: 8_000 })).rejects.toMatchObject(
			{ code: "job-conflict" },
		);
	});

	test("the same id ordered ten times at once runs once", async () => {
		const agent = await addAgent();
		const answers = await Promise.allSettled(
			Array.from({ length: 10 }, () => controller.client.orderSnapshot(agent.agentId, { jobId: "once" })),
		);
		expect(answers.filter(({ status }) => status === "fulfilled").length).toBeGreaterThan(0);
		expect(await controller.client.waitForJob("once")).toMatchObject({ state: "done" });
		expect(agent.story.filter((word) => word === "order")).toHaveLength(1);
	});
});

describe("a controller that ends", () => {
	test("while frozen: the agent is released first, and the job is failed as stopping", async () => {
		const agent = await addAgent({ silentOn: ["frozen"] });
		const { jobId } = await controller.client.orderSnapshot(agent.agentId, {});
		await agent.until("frozen");
		await controller.stop();
		expect(agent.story).toContain("thaw:stopping");
		expect(agent.story.indexOf("thaw:stopping")).toBeLessThan(agent.story.indexOf("closed"));
		expect(await folders()).toEqual([]);
		controller = await startController(stateDir);
		expect(await controller.client.readJob(jobId)).toMatchObject({ state: "failed", error: { code: "stopping" } });
	});

	test("without a word: its open job is interrupted at the next start, its images go, a late report is added", async () => {
		const agent = await addAgent({ silentOn: ["report"] });
		const { jobId } = await controller.client.orderSnapshot(agent.agentId, {});
		await agent.until("ended:file-system");
		const { crashed, crashedDir } = await copyStateOfCrash();
		expect(crashed).toHaveLength(1);
		const { port } = controller.info;
		await agent.disconnect();
		await controller.client.cancelJob(jobId);
		await controller.stop();

		stateDir = crashedDir;
		controller = await startController(stateDir, { port });
		const interrupted = { state: "failed", error: { code: "interrupted" } };
		expect(await controller.client.readJob(jobId)).toMatchObject(interrupted);
		expect(await folders()).toEqual([]);
		await agent.connect();
		agent.report(makeFakeReport({ jobId, level: "application", acceptLevel: "file-system" }, "file-system"));
		await agent.until("ack");
		expect(await controller.client.readJob(jobId)).toMatchObject({
			...interrupted,
			level: "file-system",
			report: { jobId },
		});
		expect(await controller.client.listRecoveryPoints()).toEqual([]);
	});

	test("between manifest and answer: the job is done at the next start", async () => {
		const agent = await addAgent();
		const job = await snapshot(agent);
		await controller.stop();
		const database = new DatabaseSync(join(stateDir, "controller.sqlite"));
		const open = JSON.stringify({ ...job, state: "reporting", endedAt: undefined, recoveryPointId: undefined });
		database.prepare("update jobs set job = ?, ended_at = null").run(open);
		database.exec("delete from recovery_points");
		database.close();
		controller = await startController(stateDir);
		const { state, recoveryPointId } = await controller.client.readJob(job.jobId);
		expect({ state, recoveryPointId }).toEqual({ state: "done", recoveryPointId: job.recoveryPointId });
		expect(await controller.client.listRecoveryPoints()).toHaveLength(1);
	});
});

/** The state folder as a kill would have left it: copied while the controller runs. */
async function copyStateOfCrash() {
	const crashedDir = join(folder.path, "crashed");
	await cp(stateDir, crashedDir, { recursive: true });
	await rm(join(crashedDir, "controller.json"));
	return { crashedDir, crashed: await readdir(join(crashedDir, "recovery-points")) };
}

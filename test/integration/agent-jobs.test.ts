import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
	type AgentFoldersFixture,
	type AgentProcess,
	makeAgentFolders,
	startAgent,
} from "../fixtures/agent-process.ts";
import { connectAsker, type JobClient } from "../fixtures/job-client.ts";
import { poll } from "../fixtures/poll.ts";
import { processTree } from "../fixtures/process-states.ts";
import { requireTools } from "../fixtures/required-tools.ts";

const missing = requireTools("root");

describe.skipIf(missing)(`one agent, many jobs${missing ? `: ${missing}` : ""}`, () => {
	let folders: AgentFoldersFixture;
	let agent: AgentProcess;
	const stack = new AsyncDisposableStack();

	beforeAll(async () => {
		folders = stack.use(makeAgentFolders());
		agent = stack.use(await startAgent(folders));
	});
	afterAll(() => stack.disposeAsync());

	async function asker(): Promise<JobClient> {
		return stack.use(await connectAsker(agent));
	}
	async function reportOf(one: JobClient, jobId: string) {
		const { report } = await one.until("report", jobId);
		if (report === undefined) throw new Error("no report");
		return report;
	}

	test("a job goes through its phases in the drawn order, and its report is kept", async () => {
		const one = await asker();
		expect(await one.order("good.1")).toEqual({ type: "accepted", jobId: "good.1", repeated: false });
		await one.until("prepared", "good.1");
		await one.tell("good.1", "freeze");
		await one.until("frozen", "good.1");
		await one.done("good.1");
		const report = await reportOf(one, "good.1");
		expect(report.achieved).toBe("file-system");
		const phases = one.events.flatMap(({ phase }) => phase ?? []);
		expect(phases).toEqual([
			"planning",
			"preparing",
			"prepared",
			"scripts",
			"freezing",
			"frozen",
			"thawing",
			"post",
			"judging",
			"done",
		]);
		expect((await one.client.call("job.report", { jobId: "good.1" })).report).toEqual(report);
		expect((await one.client.call("job.list", { limit: 1 })).jobs[0]).toMatchObject({ jobId: "good.1", phase: "done" });
	});

	test("while frozen status, list and report are answered, the inventory is not", async () => {
		const one = await asker();
		await one.order("good.frozen");
		await one.until("prepared", "good.frozen");
		await expect(one.client.call("agent.inventory", {})).rejects.toMatchObject({ code: "job-running" });
		await one.tell("good.frozen", "freeze");
		await one.until("frozen", "good.frozen");
		expect((await one.client.call("agent.status", {})).job).toMatchObject({ jobId: "good.frozen", phase: "frozen" });
		expect((await one.client.call("job.list", {})).jobs.length).toBeGreaterThan(0);
		await expect(one.client.call("agent.inventory", {})).rejects.toMatchObject({ code: "job-running" });
		await expect(one.client.call("link.reload", {})).rejects.toMatchObject({ code: "job-running" });
		await one.tell("good.frozen", "release");
		expect((await reportOf(one, "good.frozen")).achieved).toBe("none");
		expect(await one.client.call("agent.inventory", {})).toMatchObject({ schemaVersion: 1, failed: {} });
	});

	test("a job that comes during an inventory goes on when its programs are over", async () => {
		const one = await asker();
		const taken = one.client.call("agent.inventory", {});
		await one.order("good.inventory");
		await one.until("prepared", "good.inventory");
		const programs = () =>
			processTree(agent.pid)
				.slice(1)
				.map((pid) => (readFileSync(`/proc/${pid}/cmdline`, "utf8") || "zombie").split("\0")[0]);
		// The extension alone: what an inventory starts are other programs; the last may be on its way out.
		await poll(programs, 1_000).toEqual([process.execPath]);
		await one.cancel("good.inventory");
		await one.until("report", "good.inventory");
		await taken;
	});

	test("what the log was told while frozen lies in window.log at once and in the log after the thaw", async () => {
		const one = await asker();
		const windowLog = () => readFileSync(join(folders.flags.runDir, "window.log"), "utf8");
		await one.order("good.log");
		await one.until("prepared", "good.log");
		await one.tell("good.log", "freeze");
		await one.until("frozen", "good.log");
		await one.cancel("good.log");
		await poll(windowLog).toMatch(/cancelling the job jobId=good\.log/);
		await reportOf(one, "good.log");
		await poll(() => folders.readLog()).toMatch(/cancelling the job jobId=good\.log/);
		expect(windowLog()).not.toMatch(/agent starts/);
	});

	test("a run folder that takes no note of the snapshot holds up neither the thaw nor the next job", async () => {
		const one = await asker();
		const notes = join(folders.flags.runDir, "snapshots");
		rmSync(notes, { recursive: true, force: true });
		writeFileSync(notes, "in the way");
		for (const jobId of ["good.no-note-1", "good.no-note-2"]) {
			expect(await one.order(jobId, { startWithinMs: 0 })).toMatchObject({ type: "accepted" });
			await one.until("prepared", jobId);
			await one.tell(jobId, "freeze");
			await one.until("frozen", jobId);
			await one.done(jobId);
			expect((await reportOf(one, jobId)).achieved).toBe("file-system");
			await poll(async () => (await one.client.call("agent.status", {})).job).toBeUndefined();
		}
		rmSync(notes);
	});

	test("the same id with the same order gets the recorded answer and runs nothing", async () => {
		const one = await asker();
		const answer = await one.order("good.1");
		expect(answer).toMatchObject({ type: "accepted", repeated: true, report: { jobId: "good.1" } });
		expect(one.events).toEqual([]);
	});

	test("the same order sent three times at once runs once, by one connection or two", async () => {
		const [one, other] = [await asker(), await asker()];
		const answers = await Promise.all([one.order("good.twice"), one.order("good.twice"), other.order("good.twice")]);
		expect(answers).toMatchObject([{ repeated: false }, { repeated: true }, { repeated: true }]);
		expect(other.events).toEqual([]);
		await one.cancel("good.twice");
		await reportOf(one, "good.twice");
	});

	test("a different order under an id that waits is a conflict, and the waiting one stays", async () => {
		const [one, other] = [await asker(), await asker()];
		await one.order("good.holds-up");
		const waiting = other.order("good.waits-too", { startWithinMs: 20_000 });
		const different = () => one.order("good.waits-too", { holdLimitMs: 777, startWithinMs: 0 });
		await poll(different).toMatchObject({ error: { code: "job-conflict" } });
		await one.cancel("good.holds-up");
		expect(await waiting).toMatchObject({ type: "accepted", repeated: false });
		await other.cancel("good.waits-too");
		await reportOf(other, "good.waits-too");
	});

	test("the same id with another order is a conflict", async () => {
		const one = await asker();
		const answer = await one.order("good.1", { holdLimitMs: 777 });
		expect(answer).toMatchObject({ type: "refused", jobId: "good.1", error: { code: "job-conflict" } });
	});

	test("an order that breaks its schema is refused with the field named", async () => {
		const one = await asker();
		await expect(one.order("../../etc/passwd")).rejects.toMatchObject({ code: "message-invalid" });
		await expect(one.order("bad.1", { holdLimitMs: -1 })).rejects.toThrow(/holdLimitMs/);
		await expect(one.order("bad.2", { level: "crash", acceptLevel: "application" })).rejects.toThrow(/acceptLevel/);
	});

	test("two orders at once: the second waits its turn, or expires, or is refused when it will not wait", async () => {
		const [first, second] = [await asker(), await asker()];
		await first.order("good.first");
		await first.until("prepared", "good.first");
		expect(await second.order("good.now", { startWithinMs: 0 })).toMatchObject({ error: { code: "job-running" } });
		expect(await second.order("good.soon", { startWithinMs: 100 })).toMatchObject({ error: { code: "order-expired" } });
		const patient = second.order("good.patient", { startWithinMs: 20_000 });
		await first.tell("good.first", "freeze");
		await first.until("frozen", "good.first");
		await first.done("good.first");
		expect(await patient).toMatchObject({ type: "accepted", repeated: false });
		await second.cancel("good.patient");
		expect((await reportOf(second, "good.patient")).error?.code).toBe("cancelled");
		// A refused order leaves no trace: the id may be used again.
		await second.order("good.now");
		await second.cancel("good.now");
		await reportOf(second, "good.now");
	});

	test("an order that waits ends with its asker, and can be cancelled", async () => {
		const [first, second, third] = [await asker(), await asker(), await asker()];
		await first.order("good.busy");
		const waiting = second.order("good.waits", { startWithinMs: 20_000 });
		const leaving = third.order("good.leaves", { startWithinMs: 20_000 }).catch(() => {});
		await expect
			.poll(() =>
				first.cancel("good.waits").then(
					() => true,
					() => false,
				),
			)
			.toBe(true);
		expect(await waiting).toMatchObject({ type: "refused", error: { code: "cancelled" } });
		await third[Symbol.asyncDispose]();
		await leaving;
		await first.cancel("good.busy");
		await reportOf(first, "good.busy");
		await expect(first.client.call("job.report", { jobId: "good.leaves" })).rejects.toMatchObject({
			code: "job-unknown",
		});
	});

	test("nobody but the asker commands a job, and an unknown job is named", async () => {
		const [owner, stranger] = [await asker(), await asker()];
		await owner.order("good.mine");
		await owner.until("prepared", "good.mine");
		await expect(stranger.tell("good.mine", "freeze")).rejects.toMatchObject({ code: "not-allowed" });
		await expect(stranger.tell("good.nothing", "freeze")).rejects.toMatchObject({ code: "job-unknown" });
		await expect(
			stranger.client.call("extension.attach", { token: "0".repeat(64), jobId: "good.mine" }),
		).rejects.toMatchObject({ code: "not-allowed" });
		await expect(
			stranger.client.call("extension.event", { token: "x", event: { type: "thawed", jobId: "good.mine" } }),
		).rejects.toMatchObject({ code: "not-allowed" });
		await stranger.cancel("good.mine");
		expect((await reportOf(owner, "good.mine")).error?.code).toBe("cancelled");
	});

	describe("a bad extension", () => {
		for (const mode of ["exits-at-once", "garbage", "wrong-token", "dies-in-preparing", "dies-in-prepared"])
			test(`${mode}: the agent makes the report, evidence lost`, async () => {
				const one = await asker();
				await one.order(`${mode}.1`, { prepareLimitMs: 1_000 });
				const report = await reportOf(one, `${mode}.1`);
				expect(report.error?.code).toBe("extension-failed");
				expect(report).toMatchObject({ achieved: "none", because: ["evidence-lost"] });
				expect((await one.client.call("agent.status", {})).job).toBeUndefined();
			}, 25_000);

		test("what it printed last stands in the log", async () => {
			await poll(() => folders.readLog()).toMatch(/exits-at-once.*I leave at once/);
		});

		for (const mode of ["never-attaches", "hangs-in-preparing", "hangs-in-prepared"])
			test(`${mode}: it is ended when the order's time to prepare has passed`, async () => {
				const one = await asker();
				await one.order(`${mode}.1`, { prepareLimitMs: 1_000 });
				expect((await reportOf(one, `${mode}.1`)).error).toMatchObject({ code: "extension-failed" });
			}, 25_000);

		test("killed while frozen with a snapshot told: crash at best, and writes go on", async () => {
			const one = await asker();
			await one.order("hangs-in-post.1");
			await one.until("prepared", "hangs-in-post.1");
			await one.tell("hangs-in-post.1", "freeze");
			await one.until("frozen", "hangs-in-post.1");
			await one.done("hangs-in-post.1");
			await one.until("post", "hangs-in-post.1");
			const { job } = await one.client.call("agent.status", {});
			expect(job?.phase).toBe("post");
			killExtension("hangs-in-post.1");
			expect(await reportOf(one, "hangs-in-post.1")).toMatchObject({
				achieved: "crash",
				error: { code: "extension-failed" },
			});
		});

		test("dies while frozen: nothing may be frozen afterwards, none without a snapshot", async () => {
			const one = await asker();
			await one.order("dies-in-frozen.1");
			await one.until("prepared", "dies-in-frozen.1");
			await one.tell("dies-in-frozen.1", "freeze");
			expect(await reportOf(one, "dies-in-frozen.1")).toMatchObject({ achieved: "none", because: ["evidence-lost"] });
			expect((await one.client.call("agent.status", {})).frozen).toEqual([]);
			expect(await one.client.call("agent.inventory", {})).toMatchObject({ schemaVersion: 1 });
		});

		test("hangs while frozen: the agent's own deadline ends the hold and then the process", async () => {
			const one = await asker();
			await one.order("hangs-in-frozen.1", { holdLimitMs: 300 });
			await one.until("prepared", "hangs-in-frozen.1");
			await one.tell("hangs-in-frozen.1", "freeze");
			expect((await reportOf(one, "hangs-in-frozen.1")).error?.code).toBe("extension-failed");
			expect(folders.readLog()).toMatch(/thawing what may still be frozen jobId=hangs-in-frozen.1 why=deadline/);
		}, 30_000);

		test("frozen before freezing, a wrong phase, a wrong report: refused, and the job goes on", async () => {
			for (const jobId of ["frozen-before-freezing.1", "wrong-phase.1", "wrong-report.1", "floods-stdout.1"]) {
				const one = await asker();
				await one.order(jobId);
				await one.until("prepared", jobId);
				expect(one.events.some(({ type, phase }) => type === "frozen" || phase === "thawing")).toBe(false);
				await one.tell(jobId, "freeze");
				await one.until("frozen", jobId);
				await one.done(jobId);
				expect((await reportOf(one, jobId)).error).toBeUndefined();
			}
		});

		test("a report that came only by the status file counts", async () => {
			const one = await asker();
			await one.order("leaves-only-a-status-file.1");
			await one.until("prepared", "leaves-only-a-status-file.1");
			await one.tell("leaves-only-a-status-file.1", "freeze");
			await one.until("frozen", "leaves-only-a-status-file.1");
			await one.done("leaves-only-a-status-file.1");
			expect((await reportOf(one, "leaves-only-a-status-file.1")).achieved).toBe("file-system");
		});

		test("a status file that is half-written counts for nothing, and is replaced by a whole one", async () => {
			const one = await asker();
			const jobId = "leaves-half-a-status-file.1";
			await one.order(jobId);
			await one.until("prepared", jobId);
			await one.tell(jobId, "freeze");
			await one.until("frozen", jobId);
			await one.done(jobId);
			const report = await reportOf(one, jobId);
			expect(report).toMatchObject({ achieved: "crash", error: { code: "extension-failed" } });
			expect(report.because).toContain("evidence-lost");
			const path = join(folders.flags.stateDir, "extensions/FakeSnapshot-1.0/status", `${jobId}.status`);
			await poll(() => JSON.parse(readFileSync(path, "utf8"))).toMatchObject([{ status: { status: "error" } }]);
		});

		test("each job is closed by a status file, of whichever end", () => {
			const status = (jobId: string) =>
				readFileSync(join(folders.flags.stateDir, "extensions/FakeSnapshot-1.0/status", `${jobId}.status`), "utf8");
			expect(status("hangs-in-frozen.1")).toMatch(/"status":"error"/);
			expect(status("leaves-only-a-status-file.1")).toMatch(/"status":"success"/);
		});
	});

	describe("an asker that goes away", () => {
		for (const word of ["preparing", "prepared", "frozen"])
			test(`in ${word}: the job is undone with asker-lost`, async () => {
				const jobId = `good.lost-in-${word}`;
				const [one, other] = [await asker(), await asker()];
				await one.order(jobId);
				if (word === "frozen") {
					await one.until("prepared", jobId);
					await one.tell(jobId, "freeze");
				}
				await one.until(word, jobId);
				await one[Symbol.asyncDispose]();
				await poll(() => other.client.call("job.report", { jobId }).catch(() => undefined)).toMatchObject({
					report: { error: { code: "asker-lost" }, achieved: "none" },
				});
			});

		test("after done: the job goes on to its report", async () => {
			const jobId = "slow-in-post.1";
			const [one, other] = [await asker(), await asker()];
			await one.order(jobId);
			await one.until("prepared", jobId);
			await one.tell(jobId, "freeze");
			await one.until("frozen", jobId);
			await one.done(jobId);
			await one[Symbol.asyncDispose]();
			await poll(() => other.client.call("job.report", { jobId }).catch(() => undefined)).toMatchObject({
				report: { achieved: "file-system" },
			});
		});
	});

	function killExtension(jobId: string): void {
		const log = folders.readLog();
		const pid = /extension process started .*pid=(\d+)/.exec(
			log.slice(log.lastIndexOf(`process started jobId=${jobId}`) - 20),
		)?.[1];
		if (pid === undefined) throw new Error(`no pid of ${jobId} in the log`);
		process.kill(Number(pid), "SIGKILL");
	}
});

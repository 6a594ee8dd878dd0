/**
 * Folders and files that cannot be used, for the agent and the controller. Elsewhere stand: the agent's state folder of
 * another owner, open, a link, a file, below a file, read-only, and a full disk under its journal (agent-life.test.ts),
 * ledgers (ledger-faults.test.ts), enrolments (agent-link.test.ts), configurations (agent-config.test.ts), a controller's
 * CA and a database that is none or newer (controller-trust.test.ts).
 */
import {
	chownSync,
	copyFileSync,
	mkdirSync,
	readFileSync,
	rmSync,
	symlinkSync,
	truncateSync,
	writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { makeFakeReport } from "../fakes/fake-report.ts";
import { type AgentFoldersFixture, makeAgentFolders, startAgent } from "../fixtures/agent-process.ts";
import { addFakeAgent, makeImage, makeTestFolder, startController } from "../fixtures/controller-run.ts";
import { connectAsker } from "../fixtures/job-client.ts";
import { poll } from "../fixtures/poll.ts";
import { requireTools } from "../fixtures/required-tools.ts";
import { mountSmall } from "../fixtures/small-mount.ts";

const missing = requireTools("root", "mount");
let stack: AsyncDisposableStack;
beforeEach(() => {
	stack = new AsyncDisposableStack();
});
afterEach(() => stack.disposeAsync());

/** A page in the middle is turned into noise; the header and the length stay. */
function flipBytes(path: string): void {
	const bytes = readFileSync(path);
	for (let at = 4096; at < Math.min(bytes.length, 3 * 4096); at += 1) bytes[at] = (bytes[at] as number) ^ 0x5a;
	writeFileSync(path, bytes);
}

describe.skipIf(missing)(`files in the way of the agent${missing ? `: ${missing}` : ""}`, () => {
	let folders: AgentFoldersFixture;
	beforeEach(() => {
		folders = stack.use(makeAgentFolders());
	});

	async function refusedWith(code: string, exit: number, says: RegExp): Promise<void> {
		const { exitCode, output } = await (await startAgent(folders)).exited;
		expect({ exitCode, output }).toMatchObject({ exitCode: exit, output: expect.stringContaining(`"code":"${code}"`) });
		expect(output).toMatch(says);
	}
	/** A job of the local channel, from its order to its report. */
	async function runJob(jobId: string): Promise<string | undefined> {
		await using agent = await startAgent(folders);
		await using asker = await connectAsker(agent);
		expect(await asker.order(jobId)).toMatchObject({ type: "accepted" });
		await asker.until("prepared", jobId);
		await asker.tell(jobId, "freeze");
		await asker.until("frozen", jobId);
		await asker.done(jobId);
		return (await asker.until("report", jobId)).report?.jobId;
	}

	/** It says so once, and not where nobody would read it. */
	async function goesOnWithoutLog(says: RegExp): Promise<void> {
		const agent = await startAgent(folders);
		expect(agent.child.exitCode).toBeNull();
		await agent[Symbol.asyncDispose]();
		const { exitCode, output } = await agent.exited;
		expect({ exitCode, lost: output.match(/log lost/g)?.length }).toEqual({ exitCode: 0, lost: 1 });
		expect(output).toMatch(says);
	}

	const folderNames = ["stateDir", "logDir", "runDir"] as const;
	test.each(folderNames)(
		"a full %s at the start: refused by name, a log is done without, and all is as before when there is space",
		async (name) => {
			const path = folders.flags[name];
			const mount = stack.use(await mountSmall(path, 512));
			await mount.fill();
			if (name === "logDir") await goesOnWithoutLog(/ENOSPC/);
			else {
				const { output } = await (await startAgent(folders)).exited;
				expect(output).toMatch(new RegExp(`"code":"(disk-full|state-unusable)".*${path}`));
			}
			mount.empty();
			expect(await runJob("good.after")).toBe("good.after");
		},
		40_000,
	);

	test.each(["logDir", "runDir"] as const)(
		"a %s that is a file, a link or of somebody else is refused by name, a read-only one unless it is for logs only",
		async (name) => {
			const path = folders.flags[name];
			rmSync(path, { recursive: true, force: true });
			mkdirSync(dirname(path), { recursive: true });
			writeFileSync(path, "");
			await refusedWith("state-unusable", 78, new RegExp(`${path} is no folder`));
			rmSync(path);
			mkdirSync(join(folders.root, "elsewhere"), { mode: 0o700 });
			symlinkSync(join(folders.root, "elsewhere"), path);
			await refusedWith("state-unusable", 78, new RegExp(`${path} is no folder`));
			rmSync(path);
			mkdirSync(path, { mode: 0o700 });
			chownSync(path, 65_534, 65_534);
			await refusedWith("state-unusable", 78, /uid 65534/);
			rmSync(path, { recursive: true });
			const mount = stack.use(await mountSmall(path, 512));
			await mount.remount("ro");
			if (name === "runDir") await refusedWith("state-unusable", 78, new RegExp(path));
			else await goesOnWithoutLog(/EROFS/);
			await mount.remount("rw");
			expect(await runJob("good.repaired")).toBe("good.repaired");
		},
		40_000,
	);

	test("a run folder that gets full during a job: the job ends with its report, and the next one runs", async () => {
		const mount = stack.use(await mountSmall(folders.flags.runDir, 512));
		await using agent = await startAgent(folders);
		await using asker = await connectAsker(agent);
		await asker.order("good.filled");
		await asker.until("prepared", "good.filled");
		await mount.fill();
		await asker.tell("good.filled", "freeze");
		await asker.until("frozen", "good.filled");
		await asker.done("good.filled");
		expect((await asker.until("report", "good.filled")).report?.jobId).toBe("good.filled");
		mount.empty();
		expect(await asker.order("good.next")).toMatchObject({ type: "accepted" });
		await asker.cancel("good.next");
		await asker.until("report", "good.next");
	}, 40_000);

	test("bytes flipped in the middle of a journal with jobs: refused and left alone; put back, its reports are there", async () => {
		await runJob("good.kept");
		const path = join(folders.flags.stateDir, "journal.db");
		copyFileSync(path, `${path}.good`);
		flipBytes(path);
		const broken = readFileSync(path);
		await refusedWith("journal-corrupt", 78, /journal\.db/);
		expect(readFileSync(path).equals(broken)).toBe(true);
		copyFileSync(`${path}.good`, path);
		await using agent = await startAgent(folders);
		await using asker = await connectAsker(agent);
		expect((await asker.client.call("job.report", { jobId: "good.kept" })).report.jobId).toBe("good.kept");
	}, 40_000);

	test("a journal that another program has locked is named, and used when it is free again", async () => {
		await runJob("good.first");
		const database = new DatabaseSync(join(folders.flags.stateDir, "journal.db"));
		database.exec("BEGIN EXCLUSIVE");
		await refusedWith("already-running", 7, /journal\.db/);
		database.close();
		expect(await runJob("good.second")).toBe("good.second");
	}, 40_000);

	test("half-written leftovers of a run folder are left where they are, named, and hinder nothing", async () => {
		await runJob("good.before");
		const { runDir } = folders.flags;
		const leftovers = ["reports/half.json", "undo/half.json"].map((name) => join(runDir, name));
		for (const path of leftovers) {
			mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
			writeFileSync(path, '{"version":1,"jo', { mode: 0o600 });
		}
		expect(await runJob("good.after")).toBe("good.after");
		for (const path of leftovers) expect(readFileSync(path, "utf8")).toContain('"jo');
		await poll(() => folders.readLog()).toMatch(/a kept report cannot be read.*reports\/half\.json/);
	}, 40_000);

	test("a half-written configuration or enrolment is named; repaired, the agent starts", async () => {
		const config = readFileSync(folders.flags.config, "utf8");
		writeFileSync(folders.flags.config, config.slice(0, config.length / 2));
		await refusedWith("config-invalid", 78, /agent\.json/);
		writeFileSync(folders.flags.config, config);
		mkdirSync(folders.flags.stateDir, { mode: 0o700 });
		const enrolment = join(folders.flags.stateDir, "enrolment", "enrolment.json");
		mkdirSync(dirname(enrolment), { mode: 0o700 });
		writeFileSync(enrolment, '{"version":1,"agentId":"ag', { mode: 0o600 });
		expect(await runJob("good.unlinked")).toBe("good.unlinked");
		await poll(() => folders.readLog()).toMatch(/the link is down code=state-unusable.*enrolment\.json/);
		expect(readFileSync(enrolment, "utf8")).toContain('"ag');
	}, 40_000);
});

describe.skipIf(missing)(`files in the way of the controller${missing ? `: ${missing}` : ""}`, () => {
	let stateDir: string;
	beforeEach(async () => {
		stateDir = join(stack.use(await makeTestFolder("/var/lib")).path, "state");
	});

	async function refusedWith(code: string, says: RegExp): Promise<void> {
		const refused = startController(stateDir).then(async (controller) => {
			await controller.stop();
			throw new Error("it started");
		});
		await expect(refused).rejects.toMatchObject({ code, message: expect.stringMatching(says) });
	}
	const startsAgain = async () => (await startController(stateDir)).stop();

	test("a state folder of somebody else, a file, below a file, read-only or full is refused by name", async () => {
		mkdirSync(stateDir, { mode: 0o700 });
		chownSync(stateDir, 65_534, 65_534);
		await refusedWith("state-unusable", /uid 65534/);
		rmSync(stateDir, { recursive: true });
		writeFileSync(stateDir, "");
		await refusedWith("state-unusable", /state/);
		rmSync(stateDir);
		const mount = stack.use(await mountSmall(stateDir, 1_024));
		await mount.remount("ro");
		await refusedWith("state-unusable", /state/);
		await mount.remount("rw");
		await mount.fill();
		await refusedWith("disk-full", /state/);
		mount.empty();
		await startsAgain();
	}, 40_000);

	test.each([
		["truncated", (path: string) => truncateSync(path, readFileSync(path).length - 4096)],
		["with bytes flipped in the middle", flipBytes],
	] as const)(
		"a database that is %s is refused, left alone, and used again when it is put back",
		async (_name, harm) => {
			await startsAgain();
			const path = join(stateDir, "controller.sqlite");
			copyFileSync(path, `${path}.good`);
			harm(path);
			const broken = readFileSync(path);
			await refusedWith("state-unusable", /controller\.sqlite/);
			expect(readFileSync(path).equals(broken)).toBe(true);
			copyFileSync(`${path}.good`, path);
			await startsAgain();
		},
		40_000,
	);

	test("half-written files beside the database: the CA's are named, what can be made anew is", async () => {
		await startsAgain();
		writeFileSync(join(stateDir, "controller.json"), '{"url":"htt');
		writeFileSync(join(stateDir, "controller.json.new"), "{");
		await startsAgain();
		const certificate = join(stateDir, "ca", "cert.pem");
		const good = readFileSync(certificate);
		writeFileSync(certificate, good.subarray(0, good.length / 2));
		await refusedWith("state-unusable", /ca/);
		writeFileSync(certificate, good);
		await startsAgain();
	}, 40_000);

	test("a recovery point whose manifest is half-written is no recovery point, and the others are", async () => {
		const image = await makeImage(join(dirname(stateDir), "a.img"), 1024 * 1024, [{ offset: 0, length: 4096 }]);
		const points: string[] = [];
		{
			await using controller = await startController(stateDir);
			await using agent = await addFakeAgent(controller, { vda: image });
			for (const holdLimitMs of [5_000, 6_000]) {
				const { jobId } = await controller.client.orderSnapshot(agent.agentId, { holdLimitMs });
				points.push((await controller.client.waitForJob(jobId)).recoveryPointId as string);
			}
		}
		const manifest = join(stateDir, "recovery-points", points[0] as string, "manifest.json");
		truncateSync(manifest, 40);
		await using controller = await startController(stateDir);
		const found = await controller.client.listRecoveryPoints();
		expect(found.map(({ id }) => id)).toEqual([points[1]]);
		await expect(controller.client.readRecoveryPoint(points[0] as string)).rejects.toMatchObject({
			code: "recovery-point-invalid",
		});
	}, 40_000);

	test("a disk that gets full: an order is refused, the controller goes on, and the order is good when there is space", async () => {
		const mount = stack.use(await mountSmall(stateDir, 2_048));
		const image = await makeImage(join(dirname(stateDir), "a.img"), 64 * 1024, [{ offset: 0, length: 4096 }]);
		await using controller = await startController(stateDir);
		await using agent = await addFakeAgent(controller, { vda: image });
		await mount.fill();
		await expect(controller.client.orderSnapshot(agent.agentId, {})).rejects.toMatchObject({ code: "disk-full" });
		mount.empty();
		const { jobId } = await controller.client.orderSnapshot(agent.agentId, {});
		expect(await controller.client.waitForJob(jobId)).toMatchObject({ state: "done" });
	}, 40_000);

	test("a disk that gets full before a report is stored: it is not acknowledged, and comes again", async () => {
		const mount = stack.use(await mountSmall(stateDir, 2_048));
		const image = await makeImage(join(dirname(stateDir), "a.img"), 64 * 1024, [{ offset: 0, length: 4096 }]);
		await using controller = await startController(stateDir, { limits: { shownReportMs: 100 } });
		await using agent = await addFakeAgent(controller, { vda: image }, { silentOn: ["report"] });
		const { jobId } = await controller.client.orderSnapshot(agent.agentId, { level: "crash" });
		await agent.until("described");
		await mount.fill();
		agent.report(makeFakeReport({ jobId, level: "crash", acceptLevel: "crash" }, "crash"));
		await agent.closed;
		expect([agent.outbox.size, agent.story.includes("ack")]).toEqual([1, false]);
		expect((await controller.client.readJob(jobId)).report).toBeUndefined();
		mount.empty();
		await agent.connect();
		await agent.until("ack");
		expect(agent.outbox.size).toBe(0);
		expect(await controller.client.waitForJob(jobId)).toMatchObject({ state: "done", report: { jobId } });
	}, 40_000);
});

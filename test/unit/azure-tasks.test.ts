import { mkdir, mkdtemp, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { enableTask } from "../../extensions/vm-snapshot-linux/azure/enable-task.ts";
import { openTaskStore, type TaskRecord, takeOverTasks } from "../../extensions/vm-snapshot-linux/azure/task-store.ts";

let folder: string;
beforeEach(async () => {
	folder = await mkdtemp(join(tmpdir(), "stillpoint-test-"));
	const folders = ["config", "status", "log"].map((name) => join(folder, name));
	for (const path of folders) await mkdir(path, { mode: 0o700 });
	const [configFolder, statusFolder, logFolder] = folders;
	const handlerEnvironment = { configFolder, statusFolder, logFolder, heartbeatFile: join(folder, "heartbeat.log") };
	const environment = [{ name: "VMSnapshotLinux", version: 1, handlerEnvironment }];
	await writeFile(join(folder, "HandlerEnvironment.json"), JSON.stringify(environment));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

describe("the tasks of an installation", () => {
	test("one that has not ended is kept, however many come after it", async () => {
		await keep([...many(40, "ended"), record("running", "running"), record("waits", "accepted")]);
		await using store = await openTaskStore(folder);
		expect(store.tasks.map(({ taskId }) => taskId)).toEqual(expect.arrayContaining(["running", "waits"]));
	});

	test("one that ended long ago is known by its id, and not run again", async () => {
		await keep([...many(40, "ended"), record("old", "ended", [900])]);
		expect(await enable(901, "old")).toContain("known");
		expect(await told(901)).toMatchObject({ status: "error", code: 2 });
		expect(await stateOf("old")).toBe("ended");
	});

	test("are few enough to be read at once", async () => {
		await keep(many(3_000, "ended"));
		expect((await stat(join(folder, "azure-tasks.json"))).size).toBeLessThan(1024 * 1024);
		await using store = await openTaskStore(folder);
		expect(store.tasks[0]).toMatchObject({ taskId: "task-0", outcome: { status: "success" } });
	});
});

describe("a copy of the machine", () => {
	test("runs no task of the original, and keeps none of its secrets", async () => {
		await writeSettings(5, "of-the-original", { protectedSettings: "secret", protectedSettingsCertThumbprint: "00" });
		await keep([record("of-the-original", "accepted", [5])]);
		await becomeCopy();
		await enable(6, "own");
		expect([await stateOf("of-the-original"), await stateOf("own")]).toEqual(["ended", "accepted"]);
		expect(await readFile(join(folder, "config/5.settings"), "utf8")).not.toContain("secret");
		expect(await enable(7, "of-the-original")).toContain("known");
		expect(await told(7)).toMatchObject({ status: "error", code: 2 });
	});

	test("takes no number of the original for done", async () => {
		await keep([record("of-the-original", "ended", [5])]);
		await writeFile(join(folder, "mrseq"), "5");
		await becomeCopy();
		expect(await enable(5, "own")).toBe("task own is accepted");
		expect(await told(5)).toMatchObject({ status: "transitioning" });
	});

	test("that was updated before it was enabled, neither", async () => {
		await keep([record("of-the-original", "accepted", [5])]);
		await becomeCopy();
		const next = await mkdtemp(join(tmpdir(), "stillpoint-test-"));
		// As hosts do, before `update`.
		await writeFile(join(next, "mrseq"), "5");
		await takeOverTasks(folder, next);
		expect(await stat(join(next, "mrseq")).catch(() => "gone")).toBe("gone");
		{
			await using store = await openTaskStore(next);
			expect(store.tasks).toMatchObject([{ taskId: "of-the-original", state: "ended", sequenceNumbers: [] }]);
		}
		await rm(next, { recursive: true });
	});

	test("is none when nothing changed (control)", async () => {
		await keep([record("waits", "accepted", [5])]);
		expect(await enable(5, "waits")).toBe("task waits is known: accepted");
		expect(await stateOf("waits")).toBe("accepted");
	});
});

function record(taskId: string, state: TaskRecord["state"], sequenceNumbers: number[] = [1]): TaskRecord {
	const common = { taskId, jobId: `azure-${taskId}`, sequenceNumbers, startTicks: "", acceptedAt: "", state };
	const outcome = { status: "success", code: 1, name: "x".repeat(1_000) };
	return state === "ended" ? { ...common, outcome } : common;
}

function many(count: number, state: TaskRecord["state"]): TaskRecord[] {
	return Array.from({ length: count }, (_, index) => record(`task-${index}`, state, [10_000 + index]));
}

async function keep(tasks: readonly TaskRecord[]): Promise<void> {
	await using store = await openTaskStore(folder);
	store.tasks.push(...tasks);
	await store.save();
}

/** What was kept is of a machine with other ids. */
async function becomeCopy(): Promise<void> {
	const path = join(folder, "azure-tasks.json");
	const kept = JSON.parse(await readFile(path, "utf8"));
	const machine = { machineId: "0".repeat(32), systemUuid: "00000000-0000-0000-0000-000000000000" };
	await writeFile(path, JSON.stringify({ ...kept, machine }), { mode: 0o600 });
}

async function stateOf(taskId: string): Promise<string | undefined> {
	await using store = await openTaskStore(folder);
	return store.tasks.find((task) => task.taskId === taskId)?.state;
}

async function told(sequenceNumber: number): Promise<unknown> {
	const text = await readFile(join(folder, `status/${sequenceNumber}.status`), "utf8");
	return JSON.parse(text)[0].status;
}

async function writeSettings(
	sequenceNumber: number,
	taskId: string,
	secret: Record<string, string> = {},
): Promise<void> {
	const objectStr = Buffer.from('{"includedDisks":{"dataDiskLunList":[0]}}').toString("base64");
	const publicSettings = { commandToExecute: "snapshot", taskId, objectStr };
	const content = { runtimeSettings: [{ handlerSettings: { publicSettings, ...secret } }] };
	await writeFile(join(folder, `config/${sequenceNumber}.settings`), JSON.stringify(content), { mode: 0o600 });
}

/** The job itself is a program that does nothing. */
async function enable(sequenceNumber: number, taskId: string): Promise<string | undefined> {
	await writeSettings(sequenceNumber, taskId);
	return await enableTask({
		packageFolder: folder,
		runFolder: join(folder, "run"),
		sequenceNumber,
		job: { command: ["true"], environment: {} },
		check: () => Promise.resolve(),
		now: () => new Date(),
	});
}

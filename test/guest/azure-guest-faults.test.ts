/** What goes wrong with a task of Azure's: services, processes and files. Nothing stays frozen, run twice or untold. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { beforeAll, describe, expect, test } from "vitest";
import type { Report } from "../../contracts/report.ts";
import { findProcessIdentity } from "../../platform/linux/process-identity.ts";
import { useAzureDisks } from "../fixtures/azure-disks.ts";
import { type AzureGuest, makeAzureGuest, readTold } from "../fixtures/azure-guest.ts";
import { type LoopFileSystem, requireTools } from "../fixtures/loop-file-system.ts";
import { poll } from "../fixtures/poll.ts";
import { untilWritable } from "../fixtures/snapshot-asker.ts";
import { isWritable } from "../fixtures/writable.ts";

const missing = requireTools("root", "mkfs.ext4", "losetup", "fsfreeze", "openssl");

describe.skipIf(missing)(`a task of Azure's that goes wrong${missing ? `: ${missing}` : ""}`, () => {
	const { undo, made } = useAzureDisks({ one: { fsType: "ext4", sizeMiB: 32 }, two: { fsType: "ext4", sizeMiB: 32 } });
	let dir: string;
	let one: LoopFileSystem;
	let two: LoopFileSystem;
	let guest: AzureGuest;
	let sequenceNumber = 500;

	beforeAll(async () => {
		dir = made.dir;
		({ one, two } = made.disks);
		guest = undo.use(await makeAzureGuest(dir, [one, two]));
	});

	describe("exactly once", () => {
		test("the same number again, and the same task by another number, are answered and not run", async () => {
			const before = guest.azure.snapshots.length;
			const task = guest.task({ luns: [0] });
			const number = next();
			await guest.host.enable({ sequenceNumber: number, ...task });
			await guest.host.enable({ sequenceNumber: number + 1, ...task });
			const [first, second] = [await guest.host.waitForStatus(number), await guest.host.waitForStatus(number + 1)];
			expect(first).toMatchObject({ status: "success" });
			expect(second.substatus).toEqual(first.substatus);
			await guest.host.enableAgain();
			await rm(join(guest.host.folder, "mrseq"));
			await rm(join(guest.host.statusFolder, `${number + 1}.status`));
			await guest.host.enableAgain();
			expect(await guest.host.readStatus(number + 1)).toMatchObject({ status: "success" });
			expect(guest.azure.snapshots.length).toBe(before + 1);
			next();
		});

		test("two at once run it once", async () => {
			const before = guest.azure.snapshots.length;
			const number = next();
			const task = { sequenceNumber: number, ...guest.task({ luns: [0] }) };
			const results = await Promise.all([guest.host.enable(task), guest.host.enable(task), guest.host.enable(task)]);
			expect(results.map(({ exitCode }) => exitCode)).toEqual([0, 0, 0]);
			expect(await guest.host.waitForStatus(number)).toMatchObject({ status: "success" });
			await untilNoJob();
			expect(guest.azure.snapshots.length).toBe(before + 1);
		});

		test("two tasks at once are run one after the other", async () => {
			const numbers = [next(), next()];
			for (const number of numbers) await guest.host.enable({ sequenceNumber: number, ...guest.task() });
			const ends = await Promise.all(numbers.map((number) => guest.host.waitForStatus(number)));
			expect(ends).toMatchObject([{ status: "success" }, { status: "success" }]);
			const [first, second] = ends.map((end) => readTold(end).report).sort(byFreeze);
			expect(Date.parse(first?.thawedAt ?? "")).toBeLessThanOrEqual(Date.parse(second?.frozenAt ?? ""));
		});

		test("enable that is killed at any instant runs it once, and tells its end", async () => {
			const before = guest.azure.snapshots.length;
			const number = next();
			const text = await guest.host.settingsText({ sequenceNumber: number, ...guest.task({ luns: [0] }) });
			await writeFile(join(guest.host.configFolder, `${number}.settings`), text, { mode: 0o600 });
			for (const afterMs of [150, 220, 300]) await killEnable(number, afterMs);
			await guest.host.enable({ sequenceNumber: number, settingsText: await readSettings(number) });
			expect(await guest.host.waitForStatus(number)).toMatchObject({ status: "success" });
			await untilNoJob();
			expect(guest.azure.snapshots.length).toBe(before + 1);
		});

		test.each([
			["accepted", false, false],
			["told", true, false],
			["remembered by its number", true, true],
		])("one that is only %s when enable is killed is run by the next", async (_what, isTold, isRemembered) => {
			const before = guest.azure.snapshots.length;
			const number = next();
			const task = guest.task({ luns: [0] });
			const store = join(guest.host.folder, "azure-tasks.json");
			const { tasks = [] } = JSON.parse(await readFile(store, "utf8").catch(() => "{}"));
			const fresh = { taskId: task.taskId, jobId: `azure-${task.taskId}`, sequenceNumbers: [number], startTicks: "" };
			const kept = { version: 1, tasks: [{ ...fresh, acceptedAt: "", state: "accepted" }, ...tasks] };
			await writeFile(store, JSON.stringify(kept), { mode: 0o600 });
			const status = { name: "x", status: "transitioning", code: 4, formattedMessage: { lang: "en", message: "" } };
			const told = [{ version: "1.0", timestampUTC: new Date().toISOString(), status }];
			if (isTold) await writeFile(join(guest.host.statusFolder, `${number}.status`), JSON.stringify(told));
			if (isRemembered) await writeFile(join(guest.host.folder, "mrseq"), String(number));
			await guest.host.enable({ sequenceNumber: number, ...task });
			expect(await guest.host.waitForStatus(number)).toMatchObject({ status: "success" });
			await untilNoJob();
			expect(guest.azure.snapshots.length).toBe(before + 1);
		});

		test("settings that are replaced while their task runs change nothing", async () => {
			const before = guest.azure.snapshots.length;
			const number = next();
			setBehaviour(0, "take");
			for (const blob of guest.blobs) blob.delayMs = 700;
			await guest.host.enable({ sequenceNumber: number, ...guest.task({ luns: [0] }) });
			await poll(() => guest.azure.requests.at(-1)).toContain("comp=snapshot");
			await guest.host.enable({ sequenceNumber: number, ...guest.task({ luns: [1] }) });
			for (const blob of guest.blobs) blob.delayMs = 0;
			const status = await guest.host.waitForStatus(number);
			expect(readTold(status).report?.fileSystems.map(({ mountPoint }) => mountPoint)).toEqual([one.mountPoint]);
			await untilNoJob();
			expect(guest.azure.snapshots.length).toBe(before + 1);
		});
	});

	describe("a process that ends", () => {
		test("the job, killed while all is frozen: thawed at once, and the next enable tells it", async () => {
			const number = await startHanging();
			process.kill(await guest.jobPid(), "SIGKILL");
			await untilWritable(one);
			await guest.host.enableAgain();
			const status = await guest.host.readStatus(number);
			expect(status).toMatchObject({ status: "error", code: 2 });
			expect(status?.message).toContain("interrupted");
			await expectGood();
		});

		test("the job, killed while an application is quiet: the next enable lets it go", async () => {
			const folder = await mkdtemp(join(dir, "scripts-"));
			const said = join(folder, "said");
			const say = (word: string) => ({ command: ["/bin/sh", "-c", `echo ${word} $STILLPOINT_OUTCOME >> ${said}`] });
			const dropIn = { version: 1, application: "shop", pre: say("quiet"), post: say("free") };
			await writeFile(join(folder, "shop.json"), JSON.stringify(dropIn), { mode: 0o600 });
			await using other = await makeAzureGuest(dir, [two], { scriptsFolder: folder });
			for (const blob of other.blobs) blob.behaviour = "hang";
			await other.host.enable({ sequenceNumber: 1, ...other.task() });
			await poll(() => other.azure.requests.join()).toContain("comp=snapshot");
			process.kill(await other.jobPid(), "SIGKILL");
			await untilWritable(two);
			expect((await readFile(said, "utf8")).trim()).toBe("quiet");
			await other.host.enableAgain();
			expect(await readFile(said, "utf8")).toBe("quiet\nfree interrupted\n");
			expect(await other.host.readStatus(1)).toMatchObject({ status: "error", code: 2 });
		});

		test("job and freezer, killed together: the next enable thaws by the ledger", async () => {
			const number = await startHanging();
			const freezer = await guest.freezerPid();
			process.kill(freezer, "SIGKILL");
			process.kill(await guest.jobPid(), "SIGKILL");
			await guest.host.enableAgain();
			expect(await isWritable(one.mountPoint, 10_000)).toBe(true);
			expect(await guest.host.readStatus(number)).toMatchObject({ status: "error" });
			await expectGood();
		});

		test("the freezer alone: the job thaws and says so", async () => {
			const number = await startHanging();
			process.kill(await guest.freezerPid(), "SIGKILL");
			await untilWritable(one);
			expect(await guest.host.waitForStatus(number)).toMatchObject({ status: "error", code: 121 });
			await expectGood();
		});

		test("the job or the freezer, stopped: the other one thaws by its own deadline", async () => {
			await using other = await makeAzureGuest(dir, [two], { holdLimitMs: 2_000 });
			for (const blob of other.blobs) blob.behaviour = "hang";
			for (const [number, findPid] of [
				[1, other.jobPid],
				[2, other.freezerPid],
			] as const) {
				const asked = other.azure.requests.length;
				await other.host.enable({ sequenceNumber: number, ...other.task() });
				await poll(() => other.azure.requests.slice(asked).join()).toContain("comp=snapshot");
				const pid = await findPid();
				process.kill(pid, "SIGSTOP");
				await untilWritable(two);
				if (number === 1) process.kill(pid, "SIGCONT");
				expect(await other.host.waitForStatus(number)).toMatchObject({ status: "error" });
			}
		});

		test("the job, ended by SIGTERM: thawed and told", async () => {
			const number = await startHanging();
			process.kill(await guest.jobPid(), "SIGTERM");
			const status = await guest.host.waitForStatus(number);
			expect(status).toMatchObject({ status: "error", code: 2 });
			expect(readTold(status).report?.error?.code).toBe("stopping");
			await expectGood();
		});

		test("the job, killed before its freeze, or after its snapshot: an error, and not run again", async () => {
			const before = guest.azure.snapshots.length;
			const planning = next();
			const asked = guest.azure.requests.length;
			guest.azure.host.presnapshot = "hang";
			const custom = { takeSnapshotFrom: "onlyHost" };
			await guest.host.enable({ sequenceNumber: planning, ...guest.task({ luns: [0], custom }) });
			await poll(() => guest.azure.requests.slice(asked).join()).toContain("presnapshot");
			process.kill(await guest.jobPid(), "SIGKILL");
			guest.azure.host.presnapshot = "take";
			await guest.host.enableAgain();
			expect(await guest.host.readStatus(planning)).toMatchObject({ status: "error", code: 2 });

			for (const blob of guest.blobs) blob.readable = "hang";
			const after = next();
			await guest.host.enable({ sequenceNumber: after, ...guest.task({ luns: [0] }) });
			await poll(() => guest.azure.requests.at(-1)).toMatch(/^GET /);
			process.kill(await guest.jobPid(), "SIGKILL");
			await guest.host.enableAgain();
			expect(await guest.host.readStatus(after)).toMatchObject({ status: "error", code: 2 });
			for (const blob of guest.blobs) blob.readable = true;
			expect(guest.azure.snapshots.length).toBe(before + 1);
			await expectGood();
		});

		test("disable in the middle waits for the thaw, and no job is left", async () => {
			const number = await startHanging();
			expect(await guest.host.disable()).toMatchObject({ exitCode: 0, timedOut: false });
			expect(await isWritable(one.mountPoint, 10_000)).toBe(true);
			expect(await guest.host.readStatus(number)).toMatchObject({ status: "error" });
			expect((await guest.tasks())[0]?.state).toBe("ended");
			await untilNoJob();
			await expectGood();
		});
	});

	test("a freezer of an agent beside is waited for, but not for ever", async () => {
		const beside = await mkdtemp(join("/dev/shm", "stillpoint-test-"));
		await using other = new AsyncDisposableStack();
		other.defer(() => rm(beside, { recursive: true, force: true }));
		const freezer = spawn("sleep", ["60"], { stdio: "ignore" });
		other.defer(async () => {
			freezer.kill("SIGKILL");
			await once(freezer, "exit");
		});
		await mkdir(join(beside, "freezes"));
		const ledger = {
			schemaVersion: 1,
			jobId: "x",
			bootId: "x",
			freezer: findProcessIdentity(freezer.pid ?? 0),
			fileSystems: [],
		};
		const path = join(beside, "freezes", "x.json");
		await writeFile(path, JSON.stringify(ledger), { mode: 0o600 });
		const limited = other.use(await makeAzureGuest(dir, [two], { otherRunFolders: [beside], startWithinMs: 600 }));
		expect(await limited.run()).toMatchObject({ status: "error", code: 402 });
		expect(limited.azure.snapshots).toEqual([]);
		await rm(path);
		// Those that wait for the first of them give up before it is done, and leave it alone.
		for (const blob of limited.blobs) blob.delayMs = 1_500;
		const task = { sequenceNumber: 77, ...limited.task() };
		await Promise.all([limited.host.enable(task), limited.host.enable(task), limited.host.enable(task)]);
		expect(await limited.host.waitForStatus(77)).toMatchObject({ status: "success" });
		expect(limited.azure.snapshots).toHaveLength(1);
	});

	function next(): number {
		sequenceNumber += 1;
		return sequenceNumber;
	}

	function setBehaviour(lun: number, behaviour: AzureGuest["blobs"][number]["behaviour"]): void {
		const blob = guest.blobs[lun];
		if (blob !== undefined) blob.behaviour = behaviour;
	}

	/** A task whose snapshot is never answered: returns when its disk is frozen. */
	async function startHanging(): Promise<number> {
		setBehaviour(0, "hang");
		const asked = guest.azure.requests.length;
		const number = next();
		await guest.host.enable({ sequenceNumber: number, ...guest.task({ luns: [0] }) });
		await poll(() => guest.azure.requests.slice(asked).join()).toContain("comp=snapshot");
		setBehaviour(0, "take");
		return number;
	}

	async function expectGood(): Promise<void> {
		await untilWritable(one);
		expect(await guest.run({ luns: [0] })).toMatchObject({ status: "success", code: 1 });
	}

	async function untilNoJob(): Promise<void> {
		await poll(async () => (await guest.host.processes()).map(({ commandLine }) => commandLine)).toEqual([]);
	}

	async function readSettings(number: number): Promise<string> {
		return await readFile(join(guest.host.configFolder, `${number}.settings`), "utf8");
	}

	async function killEnable(number: number, afterMs: number): Promise<void> {
		const manifest = JSON.parse(await readFile(join(guest.host.folder, "HandlerManifest.json"), "utf8"));
		const [, ...words] = manifest[0].handlerManifest.enableCommand.split(" ");
		const env = { ...process.env, ConfigSequenceNumber: String(number), NODE_EXTRA_CA_CERTS: guest.azure.caFile };
		const child = spawn(process.execPath, words, { cwd: guest.host.folder, env, stdio: "ignore" });
		const gone = once(child, "exit");
		await sleep(afterMs);
		child.kill("SIGKILL");
		await gone;
	}
});

function byFreeze(a: Report | undefined, b: Report | undefined): number {
	return Date.parse(a?.frozenAt ?? "") - Date.parse(b?.frozenAt ?? "");
}

/**
 * What became of the tasks of this installation, beside `mrseq` in the package. A task is run by whoever takes it from
 * `accepted` to `running`, under the lock of the store: that is what makes it run once, whoever is killed when.
 *
 *   accepted -> running -> ended
 *   accepted -> ended            (cancelled, or too late)
 */
import { access, rm } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { readBootId } from "../../../platform/linux/boot-id.ts";
import { takeFileLock } from "../../../platform/linux/file-lock.ts";
import { isOtherMachine, readMachineIdentity } from "../../../platform/linux/machine-identity.ts";
import { findProcessIdentity, isSameProcessAlive } from "../../../platform/linux/process-identity.ts";
import { findSmallJson } from "../../../platform/read-small-json.ts";
import { writeWholeFile } from "../../kit/write-whole-file.ts";
import { disown, keepTasks } from "./kept-tasks.ts";

const storeName = "azure-tasks.json";
const lockLimitMs = 60_000;
const limitBytes = 4 * 1024 * 1024;

const taskRecordSchema = z.object({
	taskId: z.string(),
	jobId: z.string(),
	/** All that asked for it: each has a status file. */
	sequenceNumbers: z.array(z.int().nonnegative()),
	startTicks: z.string(),
	acceptedAt: z.string(),
	state: z.enum(["accepted", "running", "ended"]),
	/** Of its job. A pid and a start time name one process of one boot. */
	process: z.object({ pid: z.int(), startTime: z.string(), bootId: z.string() }).optional(),
	/** The `status` of the status file, once it is known for good; of the latest that ended only. */
	outcome: z.record(z.string(), z.unknown()).optional(),
});
export type TaskRecord = z.infer<typeof taskRecordSchema>;

const storeSchema = z.object({
	version: z.literal(1),
	/** Whose tasks these are. */
	machine: z.object({ machineId: z.string().optional(), systemUuid: z.string().optional() }).optional(),
	tasks: z.array(taskRecordSchema),
});

export type TaskStore = AsyncDisposable & {
	/** The newest first. Changes of it last from `save` on. */
	readonly tasks: TaskRecord[];
	/** When it came with the disk of another machine: that one's sequence numbers. Its tasks are disowned already. */
	readonly copiedNumbers: readonly number[] | undefined;
	save(): Promise<void>;
};

/** Whether there ever was a task: until then an installation has nothing to recover or cancel. */
export async function hadTasks(packageFolder: string): Promise<boolean> {
	return access(join(packageFolder, storeName)).then(
		() => true,
		() => false,
	);
}

/** At an update: what was run before the update is not run again after it. Hosts copy `mrseq` and the status files. */
export async function takeOverTasks(oldPackageFolder: string, packageFolder: string): Promise<boolean> {
	if (!(await hadTasks(oldPackageFolder)) || (await hadTasks(packageFolder))) return false;
	await using old = await openTaskStore(oldPackageFolder);
	await using store = await openTaskStore(packageFolder);
	store.tasks.push(...old.tasks);
	// The host's copy of it counts what the original did.
	if (old.copiedNumbers !== undefined) await rm(join(packageFolder, "mrseq"), { force: true });
	await store.save();
	return true;
}

/** Held by one process at a time. @throws `state-unusable`, `deadline-passed` */
export async function openTaskStore(packageFolder: string): Promise<TaskStore> {
	const path = join(packageFolder, storeName);
	await using lock = new AsyncDisposableStack();
	lock.use(await takeFileLock(join(packageFolder, "azure-tasks.lock"), lockLimitMs));
	const found = await findSmallJson(path, { code: "state-unusable", limitBytes, ownOnly: true, schema: storeSchema });
	const { machineId, systemUuid } = await readMachineIdentity();
	const machine = { machineId, systemUuid };
	const isCopy = found?.machine !== undefined && isOtherMachine(found.machine, machine);
	const tasks = (found?.tasks ?? []).map((task) => (isCopy ? disown(task) : task));
	const owned = lock.move();
	return {
		tasks,
		copiedNumbers: isCopy ? found.tasks.flatMap(({ sequenceNumbers }) => sequenceNumbers) : undefined,
		async save() {
			tasks.splice(0, tasks.length, ...keepTasks(tasks));
			await writeWholeFile(path, JSON.stringify({ version: 1, machine, tasks }));
		},
		[Symbol.asyncDispose]: () => owned.disposeAsync(),
	};
}

export async function isRunning(task: Pick<TaskRecord, "state" | "process">): Promise<boolean> {
	if (task.state !== "running" || task.process === undefined) return false;
	return task.process.bootId === (await readBootId()) && isSameProcessAlive(task.process);
}

export async function readOwnIdentity(): Promise<TaskRecord["process"]> {
	const identity = findProcessIdentity(process.pid);
	return identity === undefined ? undefined : { ...identity, bootId: await readBootId() };
}

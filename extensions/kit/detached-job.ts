import { spawn } from "node:child_process";
import { open, readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { z } from "zod";
import { StillpointError } from "../../contracts/errors.ts";
import { instancePrefix } from "./instance-name.ts";
import { findStartTicks, readBootId } from "./process-identity.ts";
import { isMissing, readLimitedFile } from "./read-limited-file.ts";
import { writeWholeFile } from "./write-whole-file.ts";

const jobFileSchema = z.object({
	pid: z.int().min(2),
	startTicks: z.string(),
	bootId: z.string(),
	sequenceNumber: z.int(),
	extensionName: z.string().optional(),
});
export type DetachedJob = z.infer<typeof jobFileSchema>;

const suffix = "job.json";
const inputLimitMs = 20_000;

/**
 * Starts a process that outlives the command that starts it: a session of its own, its output in a file of the log
 * folder. It is told what to do by stdin, never by its command line, and must do nothing before stdin has ended: by then
 * it is written down (`job.json` in the package), so that `disable` finds it.
 * @throws `extension-failed` when it cannot be started or does not read its input
 */
export async function startDetachedJob(given: {
	packageFolder: string;
	command: readonly [program: string, ...words: string[]];
	variables: Readonly<Record<string, string | undefined>>;
	input: string;
	outputFile: string;
	sequenceNumber: number;
	extensionName?: string | undefined;
}): Promise<DetachedJob> {
	const { sequenceNumber, extensionName } = given;
	const [program, ...words] = given.command;
	await using output = await open(given.outputFile, "a", 0o600);
	const child = spawn(program, words, {
		cwd: given.packageFolder,
		env: { ...given.variables },
		detached: true,
		stdio: ["pipe", output.fd, output.fd],
	});
	const failed = (what: string) => new StillpointError("extension-failed", `the job could not be started: ${what}`);
	const failure = Promise.withResolvers<never>();
	failure.promise.catch(() => undefined);
	child.once("error", (error) => failure.reject(failed(error.message)));
	child.once("exit", (code, signal) => failure.reject(failed(`it ended at once with ${signal ?? `status ${code}`}`)));
	child.stdin?.on("error", (error) => failure.reject(failed(`it did not read its input: ${error.message}`)));
	try {
		const { pid } = child;
		const startTicks = pid === undefined ? undefined : await findStartTicks(pid);
		if (pid === undefined || startTicks === undefined) {
			await Promise.race([failure.promise, sleep(1_000, undefined, { ref: false })]);
			throw failed("it has no process");
		}
		const job: DetachedJob = {
			pid,
			startTicks,
			bootId: await readBootId(),
			sequenceNumber,
			...(extensionName === undefined ? {} : { extensionName }),
		};
		await writeWholeFile(jobFile(given.packageFolder, extensionName), JSON.stringify(job));
		const written = new Promise<void>((resolve) => child.stdin?.once("finish", resolve).end(given.input));
		const late = sleep(inputLimitMs, undefined, { ref: false }).then(() =>
			Promise.reject(failed("it did not read its input")),
		);
		await Promise.race([written, failure.promise, late]);
		child.unref();
		return job;
	} catch (error) {
		child.kill("SIGKILL");
		throw error;
	} finally {
		child.removeAllListeners("exit");
	}
}

/** The living job of an instance. @throws `settings-invalid` when its file cannot be read */
export async function findDetachedJob(
	packageFolder: string,
	extensionName?: string | undefined,
): Promise<DetachedJob | undefined> {
	const job = await findJobFile(jobFile(packageFolder, extensionName));
	return job !== undefined && (await lives(job)) ? job : undefined;
}

/**
 * Ends the jobs of an instance, or of all when none is named: SIGTERM to each process group, SIGKILL to what is left
 * after `graceMs`. Returns those that lived.
 */
export async function endDetachedJobs(
	packageFolder: string,
	given: { extensionName?: string | undefined; graceMs?: number | undefined },
): Promise<DetachedJob[]> {
	const { extensionName, graceMs = 10_000 } = given;
	const files =
		extensionName === undefined
			? (await readdir(packageFolder)).filter((name) => name === suffix || name.endsWith(`.${suffix}`))
			: [`${instancePrefix(extensionName)}${suffix}`];
	const ended = await Promise.all(
		files.map(async (name) => {
			const path = join(packageFolder, name);
			const job = await findJobFile(path);
			const living = job !== undefined && (await lives(job)) ? job : undefined;
			if (living !== undefined) await endJob(living, graceMs);
			await rm(path, { force: true });
			return living;
		}),
	);
	return ended.filter((job) => job !== undefined);
}

function jobFile(packageFolder: string, extensionName: string | undefined): string {
	return join(packageFolder, `${instancePrefix(extensionName)}${suffix}`);
}

async function findJobFile(path: string): Promise<DetachedJob | undefined> {
	try {
		return jobFileSchema.parse(JSON.parse(await readLimitedFile(path, 64 * 1024)));
	} catch (error) {
		if (isMissing(error)) return undefined;
		throw new StillpointError("settings-invalid", `${path} does not say which job runs`, { cause: error });
	}
}

async function lives(job: DetachedJob): Promise<boolean> {
	return job.bootId === (await readBootId()) && (await findStartTicks(job.pid)) === job.startTicks;
}

async function endJob(job: DetachedJob, graceMs: number): Promise<void> {
	signalGroup(job.pid, "SIGTERM");
	const deadline = performance.now() + graceMs;
	while ((await lives(job)) && performance.now() < deadline) await sleep(20);
	signalGroup(job.pid, "SIGKILL");
	// One that waits for a frozen disk ends only later: the host is told, and does not wait for it here.
	const killed = performance.now() + 2_000;
	while ((await lives(job)) && performance.now() < killed) await sleep(20);
}

function signalGroup(leader: number, signal: NodeJS.Signals): void {
	try {
		process.kill(-leader, signal);
	} catch {
		// Nobody is left in it.
	}
}

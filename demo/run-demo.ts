import { randomUUID } from "node:crypto";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { renderReport } from "../command-line/render-report.ts";
import { renderVerification } from "../command-line/render-verification.ts";
import type { ControllerJob } from "../contracts/controller-messages.ts";
import { StillpointError } from "../contracts/errors.ts";
import { type ControllerClient, connectController } from "../controller/client.ts";
import { readOperatorFiles } from "../controller/operator-files.ts";
import { statePaths } from "../controller/state-folder.ts";
import { type CommitsFound, findCommits } from "./find-commits.ts";
import {
	controllerFolder,
	enrolAgent,
	type Folders,
	startAgent,
	startController,
	startGuard,
	writeAgentConfiguration,
} from "./programs.ts";
import { bundle, makeScratchFolders } from "./scratch-folders.ts";
import { makeScratchMachine, type ScratchMachine } from "./scratch-machine.ts";
import { findFaults, renderTruth, type SnapshotTruth, type WriterTruth } from "./snapshot-truth.ts";
import { acknowledgedBefore, longestStallMs, type WriterHistory } from "./writers.ts";

export type DemoResult = { schemaVersion: 1; ok: boolean; good: SnapshotTruth; bad: SnapshotTruth; faults: string[] };

export type DemoOptions = {
	/** Leave all running, writers too, until the signal. */
	keep: boolean;
	signal: AbortSignal;
	say: (line: string) => void;
	/** Called once, before anything is kept running. */
	onResult: (result: DemoResult) => void;
};

/** Runs the whole demo. Whatever it made is gone when it returns or throws. */
export async function runDemo({ keep, signal, say, onResult }: DemoOptions): Promise<DemoResult> {
	await using folders = await makeScratchFolders(keep);
	say("Bundling the programs");
	await bundle(folders.dist, signal);

	say("Making disks: ext4 with a file system nested in it, ext4 with a database, xfs, btrfs");
	await using machine = await makeScratchMachine(folders.base);
	for (const one of machine.left) say(`  left out, its mkfs is not installed: ${one}`);

	say("Starting a controller and an agent, enrolling the agent by a one-time token");
	await using controller = await startController(folders, signal);
	const url = String(controller.ready["url"]);
	using client = connectController(await readOperatorFiles(controllerFolder(folders)));
	const { token } = await client.createToken();
	const agentId = await enrolAgent(folders, url, token, signal);
	const mountPoints = [...machine.disks.map((disk) => disk.fileSystem), machine.nested].map((one) => one.mountPoint);
	const config = await writeAgentConfiguration(folders, machine.databasePath, mountPoints);
	await using guard = await startGuard(folders, signal);
	await using agent = await startAgent(folders, config, signal);
	await connected(client, agentId, signal);
	await client.mapDisks(
		agentId,
		machine.disks.map(({ name, image }) => ({ name, image })),
	);
	say(`  controller ${url} (pid ${controller.pid}), agent ${agentId} (pid ${agent.pid}), guard (pid ${guard.pid})`);

	say("");
	say("Snapshot 1: application level, ordered through the controller, under steady writes");
	const good = await takeSnapshot("application", client, agentId, machine, folders, { say, signal });
	say("");
	say("Snapshot 2: deliberately bad: the same disks, nothing frozen");
	const bad = await takeSnapshot("crash", client, agentId, machine, folders, { say, signal });

	const faults = findFaults(good, bad);
	say("");
	say(renderTruth(good, bad));
	say("");
	for (const fault of faults) say(`FAULT: ${fault}`);
	if (faults.length === 0)
		say("Labels and truth agree: the held snapshot is what it says, and the bad one is seen to be bad.");
	const result: DemoResult = { schemaVersion: 1, ok: faults.length === 0, good, bad, faults };
	onResult(result);
	if (keep) await explore(folders, machine, agentId, good, { say, signal });
	return result;
}

async function takeSnapshot(
	level: "application" | "crash",
	client: ControllerClient,
	agentId: string,
	machine: ScratchMachine,
	folders: Folders,
	{ say, signal }: Pick<DemoOptions, "say" | "signal">,
): Promise<SnapshotTruth> {
	const writers = await machine.startWriters();
	await using ending = new AsyncDisposableStack();
	for (const writer of writers) ending.use(writer);
	await sleep(1500, undefined, { signal });
	const orderedAt = { unixMs: Date.now(), monotonicMs: monotonicNowMs() };
	const { jobId } = await client.orderSnapshot(agentId, { jobId: randomUUID(), level, acceptLevel: level });
	const job = await client.waitForJob(jobId, { onChange: ({ state }) => say(`  ${state}`), signal });
	const endedAtMs = monotonicNowMs();
	await sleep(300, undefined, { signal });
	const histories = await Promise.all(writers.map((writer) => writer.stop()));
	if (job.recoveryPointId === undefined || job.report === undefined) {
		throw new StillpointError(
			job.error?.code ?? "snapshot-failed",
			job.error?.message ?? "the job made no recovery point",
		);
	}
	say(renderReport(job.report).replaceAll(/^/gm, "  "));
	const verification = await client.verifyRecoveryPoint(job.recoveryPointId, signal);
	say(renderVerification(verification).replaceAll(/^/gm, "  "));
	const { disks } = await client.readRecoveryPoint(job.recoveryPointId);
	const kept = join(statePaths(controllerFolder(folders)).recoveryPoints, job.recoveryPointId);
	const images = new Map(disks.map((disk) => [disk.name, join(kept, disk.image)]));
	const found = await findCommits(images, machine, histories, folders.base, signal);
	const writersTruth = histories.map((history) => judgeWriter(history, found, job, orderedAt, endedAtMs));
	for (const one of writersTruth) {
		say(
			`  ${one.kind} writer on ${one.path}: ${one.acknowledgedBefore} commits acknowledged before the ${level === "crash" ? "order" : "freeze"}, ` +
				`${one.found} in the recovery point; longest stall ${one.longestStallMs} ms`,
		);
	}
	return { job, verification, writers: writersTruth };
}

function judgeWriter(
	history: WriterHistory,
	found: CommitsFound,
	job: ControllerJob,
	orderedAt: { unixMs: number; monotonicMs: number },
	endedAtMs: number,
): WriterTruth {
	// Without a freeze there is no instant that the copy stands for: the order's own time is the fairest one.
	const frozenAtMs = job.report?.frozenAt === undefined ? orderedAt.unixMs : Date.parse(job.report.frozenAt);
	return {
		path: history.path,
		kind: history.kind,
		acknowledgedBefore: acknowledgedBefore(history, frozenAtMs),
		found: found.get(history.path) ?? 0,
		longestStallMs: Math.round(longestStallMs(history, orderedAt.monotonicMs, endedAtMs)),
	};
}

function monotonicNowMs(): number {
	return Number(process.hrtime.bigint()) / 1e6;
}

async function connected(client: ControllerClient, agentId: string, signal: AbortSignal): Promise<void> {
	const limit = AbortSignal.any([signal, AbortSignal.timeout(15_000)]);
	while (!(await client.readAgent(agentId)).connected) {
		limit.throwIfAborted();
		await sleep(50, undefined, { signal: limit });
	}
}

/** 8 MiB of a file. */
const commitsOfATurn = 2_048;

async function explore(
	folders: Folders,
	machine: ScratchMachine,
	agentId: string,
	good: SnapshotTruth,
	{ say, signal }: Pick<DemoOptions, "say" | "signal">,
): Promise<void> {
	await using ending = new AsyncDisposableStack();
	for (const writer of await machine.startWriters(commitsOfATurn)) ending.use(writer);
	const state = `--state-dir ${controllerFolder(folders)}`;
	say("");
	say("Everything keeps running until Ctrl-C. To explore it:");
	say(`  npx stillpoint status --run-dir ${folders.run}`);
	say(`  npx stillpoint report --run-dir ${folders.run}`);
	say(`  npx stillpoint controller agents ${state}`);
	say(`  npx stillpoint controller snapshot ${agentId} ${state}`);
	say(`  npx stillpoint controller verify ${good.job.recoveryPointId} ${state}`);
	await new Promise<void>((resolve) => {
		if (signal.aborted) resolve();
		signal.addEventListener("abort", () => resolve(), { once: true });
	});
}

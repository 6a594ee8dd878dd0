import { randomUUID } from "node:crypto";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { renderReport } from "../command-line/render-report.ts";
import { renderVerification } from "../command-line/render-verification.ts";
import type { ControllerJob } from "../contracts/controller-messages.ts";
import { StillpointError } from "../contracts/errors.ts";
import type { Verification } from "../contracts/verification.ts";
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
	writeAgentConfiguration,
} from "./programs.ts";
import { bundle, makeScratchFolders } from "./scratch-folders.ts";
import { makeScratchMachine, type ScratchMachine } from "./scratch-machine.ts";
import { acknowledgedBefore, longestStallMs, type WriterHistory } from "./writers.ts";

export type WriterTruth = {
	path: string;
	kind: string;
	acknowledgedBeforeFreeze: number;
	/** In the recovery point, whole and in order. */
	found: number;
	longestStallMs: number;
	ok: boolean;
};

export type SnapshotTruth = {
	job: ControllerJob;
	verification: Verification;
	writers: WriterTruth[];
};

export type DemoResult = { schemaVersion: 1; ok: boolean; good: SnapshotTruth; bad: SnapshotTruth; faults: string[] };

export type DemoOptions = { keep: boolean; signal: AbortSignal; say: (line: string) => void };

/** Runs the whole demo. Whatever it made is gone when it returns or throws. */
export async function runDemo({ keep, signal, say }: DemoOptions): Promise<DemoResult> {
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
	await using agent = await startAgent(folders, config, signal);
	await connected(client, agentId, signal);
	await client.mapDisks(
		agentId,
		machine.disks.map(({ name, image }) => ({ name, image })),
	);
	say(`  controller ${url} (pid ${controller.pid}), agent ${agentId} (pid ${agent.pid})`);

	say("");
	say("Snapshot 1: application level, ordered through the controller, under steady writes");
	const good = await takeSnapshot("application", client, agentId, machine, folders, { say, signal });
	say("");
	say("Snapshot 2: deliberately bad: the same disks, nothing frozen");
	const bad = await takeSnapshot("crash", client, agentId, machine, folders, { say, signal });

	const faults = findFaults(good, bad);
	say("");
	for (const fault of faults) say(`FAULT: ${fault}`);
	if (faults.length === 0)
		say("Labels and truth agree: the held snapshot is what it says, and the bad one is seen to be bad.");
	if (keep) await explore(folders, agentId, good, { say, signal });
	return { schemaVersion: 1, ok: faults.length === 0, good, bad, faults };
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
	const orderedAtMs = Date.now();
	const { jobId } = await client.orderSnapshot(agentId, { jobId: randomUUID(), level, acceptLevel: level });
	const job = await client.waitForJob(jobId, { onChange: ({ state }) => say(`  ${state}`), signal });
	const endedAtMs = Date.now();
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
	const writersTruth = histories.map((history) => judgeWriter(history, found, job, orderedAtMs, endedAtMs));
	for (const one of writersTruth) {
		say(
			`  ${one.kind} writer on ${one.path}: ${one.acknowledgedBeforeFreeze} commits acknowledged before the ${level === "crash" ? "order" : "freeze"}, ` +
				`${one.found} in the recovery point; longest stall ${one.longestStallMs} ms`,
		);
	}
	return { job, verification, writers: writersTruth };
}

function judgeWriter(
	history: WriterHistory,
	found: CommitsFound,
	job: ControllerJob,
	orderedAtMs: number,
	endedAtMs: number,
): WriterTruth {
	// Without a freeze there is no instant that the copy stands for: the order's own time is the fairest one.
	const frozenAtMs = job.report?.frozenAt === undefined ? orderedAtMs : Date.parse(job.report.frozenAt);
	const acknowledged = acknowledgedBefore(history, frozenAtMs);
	const inImage = found.get(history.path) ?? 0;
	return {
		path: history.path,
		kind: history.kind,
		acknowledgedBeforeFreeze: acknowledged,
		found: inImage,
		longestStallMs: longestStallMs(history, orderedAtMs, endedAtMs),
		ok: acknowledged > 0 && inImage >= acknowledged,
	};
}

/** Every way in which a label and the truth can disagree. */
function findFaults(good: SnapshotTruth, bad: SnapshotTruth): string[] {
	const faults: string[] = [];
	const expect = (holds: boolean, fault: string) => void (holds || faults.push(fault));
	expect(good.job.level === "application", `the held snapshot is labelled ${good.job.level}, not application`);
	expect(good.verification.agrees, "the verification contradicts the label of the held snapshot");
	expect(good.verification.looksLike === "file-system", "the images of the held snapshot do not look like a freeze");
	for (const one of good.writers) {
		expect(
			one.ok,
			`${one.path}: ${one.found} of ${one.acknowledgedBeforeFreeze} acknowledged commits are in the recovery point`,
		);
	}
	expect(bad.job.level === "crash", `the snapshot without a freeze is labelled ${bad.job.level}, not crash`);
	expect(bad.verification.looksLike === "crash", "the verification does not see that the bad snapshot was not held");
	return faults;
}

async function connected(client: ControllerClient, agentId: string, signal: AbortSignal): Promise<void> {
	const limit = AbortSignal.any([signal, AbortSignal.timeout(15_000)]);
	while (!(await client.readAgent(agentId)).connected) {
		limit.throwIfAborted();
		await sleep(50, undefined, { signal: limit });
	}
}

async function explore(
	folders: Folders,
	agentId: string,
	good: SnapshotTruth,
	{ say, signal }: Pick<DemoOptions, "say" | "signal">,
): Promise<void> {
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

import { readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { asStillpointError, StillpointError } from "../contracts/errors.ts";
import { atLeast, lowest } from "../contracts/level.ts";
import type { Order } from "../contracts/order.ts";
import type { RecoveryPoint } from "../contracts/recovery-point.ts";
import type { Report } from "../contracts/report.ts";
import { errorOnWire } from "./error-on-wire.ts";
import { errorOfReport, type Hold, type TakenImages, takeUnderHold } from "./hold.ts";
import type { RecoveryPointFolders } from "./recovery-points.ts";
import type { StoredAgent } from "./store.ts";

export type SnapshotJob = Omit<Hold, "folder" | "mappings"> & {
	readonly agent: StoredAgent;
	readonly folders: RecoveryPointFolders;
};

/**
 * One snapshot of one machine. Ends the live job in every case; never rejects for a failure of the job.
 *
 *   ordered -> preparing -> freezing -> taking -> thawing -> reporting -> done
 *        \\__________\\___________\\__________\\_________\\__________\\-> failed (the folder is removed)
 */
export async function runSnapshotJob(parts: SnapshotJob): Promise<void> {
	const { job, folders, log } = parts;
	const { jobId, agentId } = job.stored.job;
	const place: { made?: { id: string; folder: string } } = {};
	try {
		const { id, folder } = await folders.create();
		place.made = { id, folder };
		const taken = await takeOrLower(parts, folder);
		const recoveryPoint = judge(parts, id, taken);
		parts.signal.throwIfAborted();
		await folders.writeManifest(recoveryPoint);
		const { createdAt, level } = recoveryPoint;
		const facts = { recoveryPointId: id, level, ...errorBeside(taken.report) };
		await job.end("done", facts, { id, agentId, jobId, createdAt });
		log.info("snapshot taken", { jobId, agentId, recoveryPointId: id, level });
	} catch (error) {
		const failure = asStillpointError(error);
		log.warn("snapshot failed", { jobId, agentId, code: failure.code, reason: failure.message });
		if (place.made !== undefined)
			await remove(parts, place.made).catch((reason) =>
				log.error("folder not removed", { ...place.made, reason: String(reason) }),
			);
		await job.end("failed", { error: errorOnWire(failure) });
	}
}

async function remove(
	{ folders, provider }: SnapshotJob,
	{ id, folder }: { id: string; folder: string },
): Promise<void> {
	await folders.withdraw(id);
	await provider.delete(folder);
}

function errorBeside({ error }: Report): { error?: ReturnType<typeof errorOnWire> } {
	return error === undefined ? {} : { error: errorOnWire(new StillpointError(error.code, error.message)) };
}

/** At level crash nothing is frozen, so the copy may take its time: a second order, when the first accepts it. */
async function takeOrLower(parts: SnapshotJob, folder: string): Promise<TakenImages> {
	const { job, order, log } = parts;
	const hold = { ...parts, mappings: parts.agent.disks, folder };
	try {
		return await takeUnderHold(hold);
	} catch (error) {
		const failure = asStillpointError(error);
		const mayLower = order.level !== "crash" && order.acceptLevel === "crash";
		if (failure.code !== "copy-too-slow" || !mayLower) throw failure;
		const lowered = lowerOrder(order, Number(failure.details["predictedMs"]));
		log.warn("snapshot goes on at level crash", { jobId: order.jobId, reason: failure.message });
		job.note({ lowered: { from: order.level, code: "copy-too-slow", message: failure.message } });
		await job.addAgentJobId(lowered.jobId);
		await emptyFolder(parts, folder);
		return await takeUnderHold({ ...hold, order: lowered });
	}
}

function lowerOrder(order: Order, predictedMs: number): Order {
	// Nothing is frozen meanwhile, so there is no need to be tight: a busy disk is several times as slow a second later.
	const holdLimitMs = Math.min(900_000, Math.max(order.holdLimitMs, Math.ceil(predictedMs * 10) + 60_000));
	return { ...order, jobId: `${order.jobId.slice(0, 58)}.crash`, level: "crash", acceptLevel: "crash", holdLimitMs };
}

async function emptyFolder({ signal }: SnapshotJob, folder: string): Promise<void> {
	signal.throwIfAborted();
	for (const name of await readdir(folder)) await rm(join(folder, name), { recursive: true });
}

/** The agent's label on the images, never a better one, and none above what was ordered of it; an error when the asker did not accept it. */
function judge(
	{ job, order, agent, provider }: SnapshotJob,
	id: string,
	{ disks, report, ordered }: TakenImages,
): RecoveryPoint {
	const achieved = lowest([report.achieved ?? "none", ordered], "none");
	if (achieved === "none") throw errorOfReport(report, "the agent did not take it for a snapshot");
	if (!atLeast(achieved, order.acceptLevel))
		throw new StillpointError(
			"level-unreachable",
			`the snapshot is worth ${achieved}, asked for was at least ${order.acceptLevel}`,
			{
				cause: report.error,
				details: { because: report.because },
			},
		);
	const { hostname, machineId } = agent.machine;
	return {
		schemaVersion: 1,
		id,
		agentId: agent.agentId,
		jobId: job.stored.job.jobId,
		createdAt: new Date().toISOString(),
		provider: provider.name,
		level: achieved,
		disks,
		report,
		machine: { hostname, ...(machineId === undefined ? {} : { machineId }) },
	};
}

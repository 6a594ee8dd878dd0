import { rmSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import type { StillpointError } from "../../../contracts/errors.ts";
import type { ScriptReport } from "../../../contracts/report.ts";
import { isSameProcessAlive, type ProcessIdentity } from "../../../platform/linux/process-identity.ts";
import type { CheckTrust } from "./application-scripts.ts";
import { runScript } from "./run-script.ts";
import { readUndoFiles, type UndoFile, type UndoStep, writeUndoFile } from "./undo-list.ts";

const killGraceMs = 500;
const pollMs = 20;

export type RecoveredJob = { readonly jobId: string; readonly scripts: readonly ScriptReport[] };

/**
 * Undoes what a run that was killed left: its scripts that still run are ended, and each post script of a pre that was
 * started is run, told the outcome `interrupted`. A job whose own process lives undoes itself. Never twice at a time:
 * the host runs one job of the machine, or this.
 */
export async function recoverScripts(
	runFolder: string,
	checkTrust: CheckTrust,
	onBad: (error: StillpointError) => void,
): Promise<RecoveredJob[]> {
	const recovered: RecoveredJob[] = [];
	for (const { path, content } of readUndoFiles(runFolder, onBad)) {
		if (isSameProcessAlive(content.owner)) continue;
		const scripts: ScriptReport[] = [];
		for (const step of content.steps.toReversed()) {
			scripts.push(...(await undo(step, content, checkTrust)));
			content.steps.pop();
			if (content.steps.length > 0) writeUndoFile(path, content);
		}
		rmSync(path, { force: true });
		recovered.push({ jobId: content.job.jobId, scripts });
	}
	return recovered;
}

async function undo(step: UndoStep, { job }: UndoFile, checkTrust: CheckTrust): Promise<ScriptReport[]> {
	const { application: name, process: left, post } = step;
	if (left !== undefined) await endGroup(left, step.isSession === true ? step.deadlineMs : 0);
	if (post === undefined) return [];
	const report = await runScript({ name, ...post }, "post", job, { checkTrust, outcome: "interrupted" });
	return [report];
}

/** What a script started belongs to its process group; the leader's identity tells that it is still that group. */
async function endGroup(leader: ProcessIdentity, patienceMs: number): Promise<void> {
	await untilGone(leader, patienceMs);
	for (const signal of ["SIGTERM", "SIGKILL"] as const) {
		if (!isSameProcessAlive(leader)) return;
		signalGroup(leader.pid, signal);
		await untilGone(leader, killGraceMs);
	}
}

async function untilGone(identity: ProcessIdentity, limitMs: number): Promise<void> {
	const endMs = performance.now() + limitMs;
	while (isSameProcessAlive(identity) && performance.now() < endMs) await sleep(pollMs);
}

function signalGroup(leader: number, signal: NodeJS.Signals): void {
	try {
		process.kill(-leader, signal);
	} catch {
		// It ended in between.
	}
}

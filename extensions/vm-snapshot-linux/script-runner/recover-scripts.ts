import { rmSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { asStillpointError, type StillpointError } from "../../../contracts/errors.ts";
import type { ScriptReport } from "../../../contracts/report.ts";
import { findProcessIdentity, isSameProcessAlive } from "../../../platform/linux/process-identity.ts";
import type { CheckTrust } from "./application-scripts.ts";
import { scriptFailure } from "./judge-exit.ts";
import { runScript } from "./run-script.ts";
import { removeCopies } from "./script-copy.ts";
import { endScriptGroup, endScriptProcesses, findScriptProcesses, type WantedScript } from "./script-processes.ts";
import { newMark, type OnRuns, runnableStep } from "./script-step.ts";
import { findScriptUser, type ScriptUser } from "./script-user.ts";
import { readUndoFiles, type UndoFile, type UndoStep, writeUndoFile } from "./undo-list.ts";

const pollMs = 50;
const outcome = "interrupted";

export type RecoveredJob = { readonly jobId: string; readonly scripts: readonly ScriptReport[] };

/**
 * Undoes what a run that was killed left: its scripts that still run are ended, and each post script of a pre that was
 * started is run, told the outcome `interrupted`. A job whose own process lives undoes itself, and another recovery that
 * still goes on (its host was killed) is waited for: its scripts have deadlines.
 */
export async function recoverScripts(
	runFolder: string,
	checkTrust: CheckTrust,
	onBad: (error: StillpointError) => void,
): Promise<RecoveredJob[]> {
	const recovered: RecoveredJob[] = [];
	const self = findProcessIdentity(process.pid);
	while (readUndoFiles(runFolder, () => undefined).some(({ content }) => isAnother(content.undoneBy)))
		await sleep(pollMs);
	for (const { path, content } of readUndoFiles(runFolder, onBad)) {
		if (isSameProcessAlive(content.owner)) continue;
		if (self !== undefined) content.undoneBy = self;
		update(path, content);
		const scripts: ScriptReport[] = [];
		for (const step of content.steps.toReversed()) {
			const onBegun = (begun: UndoStep) => update(path, { ...content, steps: [...content.steps.slice(0, -1), begun] });
			scripts.push(...(await undo(step, content, { checkTrust, runFolder, onBegun })));
			content.steps.pop();
			if (content.steps.length > 0) update(path, content);
		}
		rmSync(path, { force: true });
		recovered.push({ jobId: content.job.jobId, scripts });
	}
	return recovered;
}

function isAnother(recovery: UndoFile["undoneBy"]): boolean {
	return recovery !== undefined && recovery.pid !== process.pid && isSameProcessAlive(recovery);
}

async function undo(
	step: UndoStep,
	{ job, owner }: UndoFile,
	given: { checkTrust: CheckTrust; runFolder: string; onBegun: (step: UndoStep) => void },
): Promise<ScriptReport[]> {
	const { process: leader, mark = newMark(), phase: _, process: __, ...still } = step;
	const { kept, post } = still;
	const phase = step.phase ?? (leader === undefined ? undefined : step.isSession === true ? "session" : "pre");
	if (phase !== undefined) {
		const wanted = { mark, phase, since: leader ?? owner, leader };
		const letGo = phase === "session" && (await endsWithin(wanted, step.deadlineMs));
		if (letGo && leader !== undefined) await endScriptGroup({ ...wanted, leader });
		else await endScriptProcesses(wanted);
	}
	// Of a post that was killed half-way.
	await removeCopies(given.runFolder, mark).catch(() => undefined);
	const onRuns: OnRuns = (what) => given.onBegun({ ...still, mark, ...(what === undefined ? {} : begun(what)) });
	const reports = post === undefined ? [] : [await runPost({ ...still, mark }, post, { job, onRuns, ...given })];
	if (kept !== undefined) await endScriptGroup({ mark, phase: "pre", since: kept, leader: kept });
	await removeCopies(given.runFolder, mark).catch(() => undefined);
	return reports;
}

function begun(what: "starting" | number): Pick<UndoStep, "phase" | "process"> {
	const found = typeof what === "number" ? findProcessIdentity(what) : undefined;
	return { phase: "post", ...(found === undefined ? {} : { process: found }) };
}

/** What is only brought up to date may fail: the older word makes the next recovery do too much, not too little. */
function update(path: string, content: UndoFile): void {
	try {
		writeUndoFile(path, content);
	} catch {
		// See above.
	}
}

async function runPost(
	{ application, mark, ownerOnly = false, runAs }: UndoStep & { mark: string },
	{ command, commandWithoutSnapshot, deadlineMs, retries = 0 }: NonNullable<UndoStep["post"]>,
	given: { job: UndoFile["job"]; checkTrust: CheckTrust; runFolder: string; onRuns: OnRuns },
): Promise<ScriptReport> {
	let user: ScriptUser | undefined;
	try {
		user = runAs === undefined ? undefined : await findScriptUser(runAs);
	} catch (thrown) {
		const error = scriptFailure(asStillpointError(thrown));
		return { name: application, phase: "post", timedOut: false, durationMs: 0, outputTail: "", error };
	}
	const scripts = { application, ownerOnly, keepsProcesses: false };
	const called = { command, deadlineMs, retries, ...(commandWithoutSnapshot && { commandWithoutSnapshot }) };
	const step = runnableStep(scripts, "post", called, { mark, user, outcome });
	return runScript(step, given, { end: { outcome }, onRuns: given.onRuns });
}

/** By itself, because its stdin has ended. */
async function endsWithin(wanted: WantedScript, limitMs: number): Promise<boolean> {
	const { leader } = wanted;
	const endMs = performance.now() + limitMs;
	for (;;) {
		const isOver = leader === undefined ? findScriptProcesses(wanted).length === 0 : !isSameProcessAlive(leader);
		if (isOver || performance.now() >= endMs) return isOver;
		await sleep(pollMs);
	}
}

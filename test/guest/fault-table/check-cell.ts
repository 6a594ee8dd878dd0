/** What must be true after every cell. Each check returns what is wrong, in words. */
import { readdirSync, readFileSync } from "node:fs";
import { open } from "node:fs/promises";
import { join } from "node:path";
import type { ControllerJob } from "../../../contracts/controller-messages.ts";
import { checkExt4 } from "../../../controller/verify/ext4-check.ts";
import { findFileSystems } from "../../../controller/verify/image-identity.ts";
import { openRawImage, regionOf } from "../../../controller/verify/raw-image.ts";
import { loadFreezeCalls } from "../../../platform/linux/freeze-calls.ts";
import { isMounted } from "../../fixtures/loop-file-system.ts";
import { bestLevel, type Cell, holdLimitMs, isBetter, promiseMs } from "./cells.ts";
import type { Lane } from "./lane.ts";

type Look = {
	readonly cell: Cell;
	readonly jobId: string;
	readonly job: ControllerJob | undefined;
	/** CLOCK_MONOTONIC in ms, before the order. */
	readonly sinceMs: number;
};

const goneLimitMs = 6_000;

export async function checkCell(lane: Lane, look: Look): Promise<{ longestWriteMs: number; faults: string[] }> {
	const { tookMs } = await lane.prober.longestMs(look.sinceMs, 10_000);
	const faults = [
		...(tookMs > holdLimitMs + promiseMs ? [`nothing could be written for ${Math.round(tookMs)} ms`] : []),
		...(await checkOthers(lane)),
		...checkReport(look),
		...checkScripts(lane, look),
		...(await checkLabel(lane, look)),
		...(await checkLeftovers(lane, look)),
	];
	return { longestWriteMs: tookMs, faults };
}

async function checkOthers({ foreign }: Lane): Promise<string[]> {
	if (!(await isMounted(foreign.mountPoint))) return ["a mount of others is gone"];
	await using folder = await open(foreign.mountPoint, "r");
	const state = await (await loadFreezeCalls()).probeFrozen(folder.fd);
	return state === "frozen" ? [] : [`a freeze of others was undone: ${JSON.stringify(state)}`];
}

/** The agent answers for every job that it began, and the controller keeps one report of it. */
function checkReport({ cell, job }: Look): string[] {
	if (job === undefined) return ["the controller does not know the job"];
	const faults: string[] = [];
	if (job.state === "failed" && job.error === undefined) faults.push("the job failed without a word why");
	const { report } = job;
	if ([job.error?.code, report?.error?.code].includes("stuck")) faults.push("ended as stuck, and nothing is frozen");
	if (report === undefined) return cell.phase === "queued" ? faults : [...faults, "the report was lost"];
	if (report.because.includes("evidence-lost") && isBetter(report.held, "crash"))
		faults.push("evidence lost, and held");
	const best = bestLevel(cell);
	for (const level of [report.achieved ?? "none", job.level ?? "none"])
		if (isBetter(level, best)) faults.push(`said to be ${level}, can be ${best} at best`);
	return faults;
}

/** Whoever was made quiet was let go again: the post script ran, or the report says why not. */
function checkScripts({ scripts }: Lane, { jobId, job }: Look): string[] {
	const notes = scripts.notesOf(jobId);
	const faults: string[] = [];
	const told = job?.report?.scripts ?? [];
	const wasStarted = notes.includes("pre") || told.some(({ phase }) => phase === "pre");
	const posts = notes.filter((note) => note.startsWith("post"));
	const isExplained = told.some(({ phase, error }) => phase === "post" && error !== undefined);
	if (wasStarted && posts.length === 0 && !isExplained) faults.push(`no post script: ${notes.join(", ")}`);
	if (job?.report?.achieved === "application" && !notes.includes("released release"))
		faults.push("a hold was not proved");
	return faults;
}

/** The bytes of the image that was taken are the last word on the label. */
async function checkLabel(lane: Lane, { job }: Look): Promise<string[]> {
	if (job?.recoveryPointId === undefined) return job?.state === "done" ? ["done without a recovery point"] : [];
	const point = await lane.client.readRecoveryPoint(job.recoveryPointId);
	const faults = isBetter(point.level, job.report?.achieved ?? "none") ? ["labelled above its report"] : [];
	if (!isBetter(point.level, "crash")) return faults;
	const folder = join(lane.controllerState, "recovery-points", point.id);
	for (const disk of point.disks) {
		await using image = await openRawImage(join(folder, disk.image), { follow: false });
		const found = await findFileSystems(image);
		if (found.length === 0) faults.push("the image holds no file system");
		for (const { fsType, uuid, offsetBytes, sizeBytes } of found) {
			const reader = regionOf(image, offsetBytes, sizeBytes);
			const member = { disk: disk.name, imagePath: "", offsetBytes, sizeBytes, reader };
			const findings = await checkExt4({ fsType, uuid, members: [member] });
			for (const { check, status, detail } of findings) if (status !== "pass") faults.push(`${check}: ${detail}`);
		}
	}
	return faults;
}

async function checkLeftovers(lane: Lane, look: Look): Promise<string[]> {
	const endMs = performance.now() + goneLimitMs;
	for (;;) {
		const left = findLeftovers(lane, look);
		if (left.length === 0 || performance.now() > endMs) return left;
		await new Promise((resolve) => setTimeout(resolve, 50));
	}
}

function findLeftovers({ folders }: Lane, { jobId }: Look): string[] {
	const { runDir } = folders.flags;
	// By the environment: scripts have the job's id, the extension and what it starts its own folder.
	const marks = [`STILLPOINT_JOB_ID=${jobId}\0`, `AZURE_GUEST_AGENT_EXTENSION_PATH=${folders.root}/`];
	const left = readdirSync("/proc").filter((name) => {
		const environment = /^\d+$/.test(name) ? readOrEmpty(`/proc/${name}/environ`) : "";
		return marks.some((mark) => environment.includes(mark));
	});
	return [
		...left.map((pid) => `process ${pid} is left: ${readOrEmpty(`/proc/${pid}/cmdline`).replaceAll("\0", " ")}`),
		...["freezes", "undo"].flatMap((folder) =>
			listNames(join(runDir, folder)).map((name) => `${folder}/${name} is left`),
		),
	];
}

function listNames(folder: string): string[] {
	try {
		return readdirSync(folder);
	} catch {
		return [];
	}
}

function readOrEmpty(path: string): string {
	try {
		return readFileSync(path, "utf8");
	} catch {
		return "";
	}
}

/** Brings a job into the wanted phase, and keeps it there for as long as it takes to strike. */
import { readFileSync } from "node:fs";
import { basename } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { processTree } from "../../fixtures/process-states.ts";
import { programs } from "../../fixtures/programs.ts";
import { type SlowCalls, slowDown } from "../../fixtures/slow-calls.ts";
import type { Component, Phase } from "./cells.ts";
import type { Lane } from "./lane.ts";

/** The phase went by, or the process was not there yet: the cell is tried again. */
export class Missed extends Error {}

/** Disposing lets everything run at its own speed again. */
export type Aimed = AsyncDisposable & {
	readonly pid: number;
	/** For when the agent answers again. */
	freeQueue(): Promise<void>;
};

/** Long enough to be seen and struck on a busy machine. */
const slowMs = 350;
/** Of a phase that is slowed down, and of one that is not. */
const pollMs = 25;
const closePollMs = 6;
const aimLimitMs = 10_000;

const quickPhases: readonly Phase[] = ["queued", "planning", "preparing", "prepared", "reporting"];

export type Aim = {
	readonly jobId: string;
	readonly holdLimitMs: number;
	readonly phase: Phase;
	/** Whose process is wanted; undefined: none, and `pid` is 0. */
	readonly component: Component | undefined;
	/** So many reads of each of the controller's threads are slow while all is frozen; default: all. */
	readonly slowReads?: number;
	/** FIFREEZE is slow before it does its work; default: after it. */
	readonly beforeFreeze?: boolean;
};

export async function aim(lane: Lane, wanted: Aim): Promise<Aimed> {
	const { jobId, holdLimitMs, phase, component, slowReads, beforeFreeze } = wanted;
	await using undo = new AsyncDisposableStack();
	const needsTime: readonly Phase[] = ["freezing", "frozen", "thawing", "undoing"];
	lane.scripts.setDurations({
		preMs:
			phase === "scripts" || (phase === "judging" && component === "freezer")
				? 500
				: needsTime.includes(phase)
					? slowMs
					: 0,
		postMs: ["post", "judging", "undoing", "reporting"].includes(phase) ? 500 : 0,
	});
	const freeQueue = phase === "queued" ? await occupy(lane, `first-${jobId}`, holdLimitMs) : async () => {};
	const slow = async (pid: number, how: SlowCalls) => {
		const slowed = await slowDown(pid, how).catch((error: unknown) => {
			throw new Missed(String(error));
		});
		undo.use(slowed);
	};
	const paths = lane.machine.images.map(({ imagePath }) => imagePath);
	if (phase === "prepared") await slow(lane.controller.pid, { calls: ["openat"], delayMs: slowMs, paths });
	await lane.client.orderSnapshot(lane.agentId, {
		jobId,
		level: "application",
		acceptLevel: "crash",
		holdLimitMs,
		prepareLimitMs: 6_000,
	});
	const cancel = () => lane.call("job.command", { command: { type: "cancel", jobId, code: "cancelled" } });
	if (needsTime.includes(phase)) {
		await reach(lane, jobId, "scripts");
		const freezer = { calls: ["ioctl"], delayMs: slowMs, afterwards: phase === "freezing" && beforeFreeze !== true };
		if (phase !== "frozen" && (phase !== "undoing" || component === "freezer"))
			await slow(findProcess(lane, "freezer"), freezer);
		if (phase === "frozen" || phase === "undoing")
			await slow(lane.controller.pid, {
				calls: ["pread64"],
				delayMs: slowMs,
				paths,
				...(slowReads === undefined ? {} : { times: slowReads }),
			});
	}
	if (phase === "undoing") {
		await reach(lane, jobId, "frozen");
		await cancel();
	}
	if (phase === "judging" && component === "freezer") {
		// It lives until then only when nothing was frozen.
		await reach(lane, jobId, "scripts");
		await cancel();
		await reach(lane, jobId, "undoing");
	} else if (phase === "judging" || phase === "reporting") await reach(lane, jobId, "post");
	if (phase === "judging") await slow(findProcess(lane, "extension"), { calls: ["rename"], delayMs: slowMs });
	if (phase === "reporting")
		await slow(lane.controller.pid, { calls: ["fsync", "fdatasync", "pwrite64"], delayMs: slowMs });
	await reach(lane, jobId, phase);
	const pid = component === undefined ? 0 : await untilThere(lane, component, phase);
	const owned = undo.move();
	return { pid, freeQueue, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

async function reach(lane: Lane, jobId: string, phase: Phase): Promise<void> {
	const endMs = performance.now() + aimLimitMs;
	let seen = "";
	while (performance.now() < endMs) {
		seen = await readPhase(lane, jobId);
		if (seen === phase) return;
		if (phase !== "reporting" && (seen === "done" || seen === "failed")) break;
		await sleep(quickPhases.includes(phase) ? closePollMs : pollMs);
	}
	const { lastJobs } = await lane.status();
	const code = lastJobs.find((one) => one.jobId === jobId)?.errorCode;
	throw new Missed(`${jobId} was never seen in ${phase}, but in ${seen}${code === undefined ? "" : ` (${code})`}`);
}

/** `queued` until the agent knows the job, `reporting` until the controller has its report. */
async function readPhase(lane: Lane, jobId: string): Promise<string> {
	const { job, lastJobs, link } = await lane.status();
	if (job?.jobId === jobId) return job.phase;
	const known = lastJobs.find((one) => one.jobId === jobId);
	if (known === undefined) return job === undefined ? "" : "queued";
	return link.unsentReports > 0 ? "reporting" : known.phase;
}

async function untilThere(lane: Lane, component: Component, phase: Phase): Promise<number> {
	for (let attempt = 0; attempt < 60; attempt += 1) {
		const pid = findProcess(lane, component, phase);
		if (pid > 0) return pid;
		await sleep(5);
	}
	throw new Missed(`no ${component} in ${phase}`);
}

/** 0: there is none. */
export function findProcess(lane: Lane, component: Component, phase?: Phase): number {
	if (component === "agent") return lane.agent.pid;
	if (component === "controller") return lane.controller.pid;
	const tree = processTree(lane.agent.pid);
	const find = (words: string) => tree.find((pid) => commandOf(pid).includes(words)) ?? 0;
	if (component === "extension") return find(`/${basename(programs.extension())}\0snapshot`);
	if (component === "freezer") return find("freezer");
	if (phase === "scripts") return find("/pre.sh");
	return phase === "post" || phase === "undoing" ? find("/post.sh") : find("/session.sh");
}

function commandOf(pid: number): string {
	try {
		return readFileSync(`/proc/${pid}/cmdline`, "utf8");
	} catch {
		return "";
	}
}

/** Another job, of somebody at the machine, that waits for its asker. Returns what ends it. */
async function occupy(lane: Lane, jobId: string, holdLimitMs: number): Promise<() => Promise<void>> {
	const disks = { include: lane.machine.images.map(({ disk }) => disk) };
	const order = { jobId, level: "crash", acceptLevel: "crash", disks, holdLimitMs } as const;
	await lane.call("job.order", { order });
	await reach(lane, jobId, "prepared");
	return async () => {
		await lane.call("job.command", { command: { type: "cancel", jobId, code: "cancelled" } }).catch(() => undefined);
	};
}

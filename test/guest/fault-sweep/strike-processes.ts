/** Processes that are killed, stopped, told to end, or get no memory. */
import { setTimeout as sleep } from "node:timers/promises";
import type { Level } from "../../../contracts/level.ts";
import {
	findProcessIdentity,
	isSameProcessAlive,
	type ProcessIdentity,
} from "../../../platform/linux/process-identity.ts";
import { fillPipes } from "../../fixtures/filled-pipes.ts";
import { makeMemoryLimit } from "../../fixtures/memory-limit.ts";
import { Missed } from "../fault-table/aim.ts";
import { type Scene, type Struck, stallMs } from "./scene.ts";

const starvedBytes = [262_144, 1_048_576, 4_194_304];
const endLimitMs = 30_000;
/** As the restart of a service. */
const restartAfterMs = 500;

type One = "agent" | "extension" | "freezer" | "guard" | "script" | "controller";

export async function strikeOne(scene: Scene, victim: One, fault: string): Promise<Struck> {
	const identity = identify(scene, victim);
	const isService = victim === "agent" || victim === "controller" || victim === "guard";
	if (fault === "starved") return starve(scene, victim, identity);
	if (fault === "full-pipe") return fill(scene, identity);
	const letGo = fault === "stopped" && scene.random() < 0.5;
	send(identity, fault === "killed" ? "SIGKILL" : fault === "terminated" ? "SIGTERM" : "SIGSTOP");
	const lost = fault === "killed" || (fault === "stopped" && !letGo);
	return {
		note: fault === "stopped" ? (letGo ? "let go again" : "not let go") : fault,
		async settle() {
			if (fault === "stopped") await sleep(stallMs);
			if (letGo) send(identity, "SIGCONT");
			else if (fault === "stopped" && isService) send(identity, "SIGKILL");
			if (isService && !letGo) await untilEnded(scene, victim);
		},
		// Whoever was stopped must have been ended by those who waited for it.
		check: async () => (lost && !isService ? endLeft(identity, victim) : []),
		best: () => bestWithout(scene, victim, lost || (victim === "script" && fault === "terminated")),
	};
}

/** All but the guard, or all: then only a service manager is left, which starts the guard again. */
export async function strikeAll(scene: Scene, fault: string): Promise<Struck> {
	const { lane, random } = scene;
	const guardToo = fault === "killed" && lane.guard !== undefined && random() < 0.5;
	const names: One[] = ["agent", "extension", "freezer", ...(guardToo ? (["guard"] as const) : [])];
	const all = names.flatMap((name) => (scene.pids[name] > 0 ? [identify(scene, name)] : []));
	for (const one of all) send(one, fault === "killed" ? "SIGKILL" : "SIGSTOP");
	const struckMs = performance.now();
	const state = { guardedAfterMs: 0 };
	return {
		// Nobody promises anything before it runs again.
		allowanceMs: () => state.guardedAfterMs,
		note: guardToo ? "the guard too" : "all but the guard",
		async settle() {
			if (guardToo) {
				await sleep(restartAfterMs);
				await lane.restartGuard();
				state.guardedAfterMs = performance.now() - struckMs;
			}
			await sleep(stallMs);
			for (const one of all) if (fault === "stopped") send(one, "SIGKILL");
			await untilEnded(scene, "agent");
		},
		best: () => bestWithout(scene, "extension", true),
	};
}

function identify(scene: Scene, victim: One): ProcessIdentity {
	const identity = findProcessIdentity(scene.pids[victim]);
	if (identity === undefined) throw new Missed(`there is no ${victim}`);
	return identity;
}

function starve(scene: Scene, victim: One, identity: ProcessIdentity): Struck {
	const limit = makeMemoryLimit(`stillpoint-sweep-${process.pid}-${scene.jobId}`);
	const bytes = starvedBytes[Math.floor(scene.random() * starvedBytes.length)] as number;
	const waits = scene.random() < 0.5;
	limit.starve(identity.pid, bytes, waits);
	return {
		note: `${bytes} bytes, ${waits ? "waits" : "is ended"}`,
		async settle() {
			await sleep(stallMs);
			await limit[Symbol.asyncDispose]();
			// Who was ended for want of memory may be about to go.
			await sleep(100);
		},
		best: () => bestWithout(scene, victim, false),
	};
}

/** Nobody reads what it says: the agent, which would, is stopped in every second round. */
async function fill(scene: Scene, identity: ProcessIdentity): Promise<Struck> {
	const reader = scene.random() < 0.5 ? identify(scene, "agent") : undefined;
	if (reader !== undefined) send(reader, "SIGSTOP");
	const filled = await fillPipes(identity.pid);
	return {
		note: reader === undefined ? "read" : "not read",
		async settle() {
			await sleep(stallMs);
			await filled[Symbol.asyncDispose]();
			if (reader !== undefined) send(reader, "SIGCONT");
		},
	};
}

/** What a script held or proved is lost with it; what an extension saw, too. */
function bestWithout({ round }: Scene, victim: One, isLost: boolean): Level {
	if (!isLost) return "application";
	if (victim === "script") return "file-system";
	if (victim !== "extension") return "application";
	return round.cell.point === "before" || round.cell.point === "freezing" ? "none" : "crash";
}

async function endLeft(identity: ProcessIdentity, victim: One): Promise<string[]> {
	if (!isSameProcessAlive(identity)) return [];
	send(identity, "SIGKILL");
	return [`the stopped ${victim} was left`];
}

async function untilEnded({ lane }: Scene, victim: "agent" | "controller" | "guard"): Promise<void> {
	const late = sleep(endLimitMs, "late", { ref: false });
	if ((await Promise.race([lane[victim]?.exited, late])) === "late")
		throw new Error(`${victim} did not end within ${endLimitMs} ms`);
}

function send(identity: ProcessIdentity, signal: NodeJS.Signals): void {
	try {
		if (isSameProcessAlive(identity)) process.kill(identity.pid, signal);
	} catch {
		// It ended in between.
	}
}

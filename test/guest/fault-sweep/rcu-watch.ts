/** Watches the one switch of the machine that all lanes share: it is on while somebody's marker says so, and no longer. */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

export type RcuWatch = Disposable & {
	/** It was on, and no marker said whose it is, for longer than a moment. */
	readonly faults: readonly string[];
};

const pollMs = 50;
const momentMs = 1_500;
const switchPath = "/sys/kernel/rcu_expedited";

/** @param runDirs of all the agents that may switch it now */
export function watchRcu(runDirs: () => readonly string[], path = switchPath): RcuWatch {
	const faults: string[] = [];
	const state = { sinceMs: undefined as number | undefined, isTold: false };
	const timer = setInterval(() => {
		if (readSwitch(path) === "0" || runDirs().some(hasMarker)) {
			state.sinceMs = undefined;
			state.isTold = false;
			return;
		}
		state.sinceMs ??= performance.now();
		if (state.isTold || performance.now() - state.sinceMs < momentMs) return;
		state.isTold = true;
		faults.push(`rcu_expedited stays on though nobody's marker says so (seen at ${new Date().toISOString()})`);
	}, pollMs);
	timer.unref();
	return { faults, [Symbol.dispose]: () => clearInterval(timer) };
}

function hasMarker(runDir: string): boolean {
	try {
		return readdirSync(join(runDir, "freezes")).some((name) => name.startsWith("rcu-expedited"));
	} catch {
		return false;
	}
}

function readSwitch(path: string): string {
	try {
		return readFileSync(path, "latin1").trim();
	} catch {
		return "";
	}
}

import { type ChildProcess, spawn } from "node:child_process";
import { setTimeout as sleep } from "node:timers/promises";
import { StillpointError } from "../contracts/errors.ts";

/** How long a command that must end may take after SIGTERM. */
const endLimitMs = 500;

export type HeldCommand = AsyncDisposable & {
	/** Lets it run; returns why no snapshot was taken, or nothing. It ends when `signal` says so, with all it started. */
	run(signal: AbortSignal): Promise<StillpointError | undefined>;
};

/**
 * The command of `--run`, its shell started before the freeze and waiting for a word: nothing of ours forks or loads
 * while file systems are frozen. Its stdout is thrown away, because stdout is the report's.
 */
export function prepareHeldCommand(command: string): HeldCommand {
	// `shift` gives the command the arguments it would have had without us: none.
	const waiting = 'read -r word && [ "$word" = go ] || exit 125; exec </dev/null; eval "shift\n$1"';
	const child = spawn("/bin/sh", ["-c", waiting, "stillpoint-run", command], {
		stdio: ["pipe", "ignore", "inherit"],
		// A process group of its own, so that it can be ended with everything that it started.
		detached: true,
	});
	child.stdin?.on("error", () => {});
	const ended = new Promise<string | undefined>((resolve) => {
		child.once("error", (error) => resolve(`could not be started: ${error.message}`));
		child.once("exit", (status, signal) => {
			if (signal !== null) resolve(`was ended by ${signal}`);
			else resolve(status === 0 ? undefined : `ended with exit status ${status}`);
		});
	});
	let hasEnded = false;
	void ended.then(() => {
		hasEnded = true;
	});
	let ending: Promise<void> | undefined;
	const end = () => {
		ending ??= (async () => {
			if (hasEnded) return;
			signalGroup(child, "SIGTERM");
			await Promise.race([ended, sleep(endLimitMs)]);
			signalGroup(child, "SIGKILL");
		})();
		return ending;
	};
	return {
		async run(signal) {
			const overdue = Promise.withResolvers<"overdue">();
			const abort = () => overdue.resolve("overdue");
			if (signal.aborted) abort();
			signal.addEventListener("abort", abort, { once: true });
			child.stdin?.end("go\n");
			const fault = await Promise.race([ended, overdue.promise]);
			signal.removeEventListener("abort", abort);
			if (fault === undefined) return undefined;
			if (fault !== "overdue") return new StillpointError("snapshot-failed", `the command of --run ${fault}`);
			// Not waited for: one that waits for a frozen disk ends only after the thaw that this answer brings.
			void end();
			return new StillpointError("hold-expired", "the command of --run did not end in time and was ended");
		},
		async [Symbol.asyncDispose]() {
			child.stdin?.destroy();
			await end();
		},
	};
}

function signalGroup(child: ChildProcess, signal: NodeJS.Signals): void {
	try {
		if (child.pid !== undefined) process.kill(-child.pid, signal);
	} catch {
		// It has ended.
	}
}

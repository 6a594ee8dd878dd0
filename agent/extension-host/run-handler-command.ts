import { spawn } from "node:child_process";
import { StillpointError } from "../../contracts/errors.ts";
import { within } from "../../platform/within.ts";
import { parseCommandLine } from "./command-line-words.ts";
import { handlerEnvironment } from "./handler-environment.ts";
import { keepTail } from "./output-tail.ts";

const tailBytes = 3_200;

/**
 * Runs one of the manifest's commands to its end. It is a leader of its own process group, and the whole group is
 * ended at the deadline, at the signal, and when the command itself has ended.
 * @throws `extension-failed` with the tail of its output.
 */
export async function runHandlerCommand(given: {
	extension: { name: string; version: string; folder: string };
	command: string;
	what: string;
	limitMs: number;
	signal: AbortSignal;
}): Promise<void> {
	const { extension, what } = given;
	given.signal.throwIfAborted();
	const [program, ...words] = parseCommandLine(given.command, extension.folder);
	const child = spawn(program, words, {
		cwd: extension.folder,
		env: handlerEnvironment(extension),
		detached: true,
		stdio: ["ignore", "pipe", "pipe"],
	});
	const tail = keepTail([child.stdout, child.stderr], tailBytes);
	const ended = Promise.withResolvers<string | undefined>();
	child.on("error", (error) => ended.resolve(error.message));
	child.on("exit", (code, signal) => ended.resolve(code === 0 ? undefined : (signal ?? `exit status ${code}`)));
	let fault: string | undefined;
	try {
		fault = await within(ended.promise, given.limitMs, `${what} of ${extension.name}`, given.signal);
	} finally {
		endGroup(child.pid);
	}
	if (fault !== undefined)
		throw new StillpointError("extension-failed", `${what} of ${extension.name} ${extension.version}: ${fault}`, {
			details: { outputTail: tail.text() },
		});
}

/** SIGKILL to a process group; one that is gone is no fault. */
export function endGroup(leader: number | undefined): void {
	if (leader === undefined) return;
	try {
		process.kill(-leader, "SIGKILL");
	} catch {
		// Nobody is left in it.
	}
}

import { spawn } from "node:child_process";
import { appendFile } from "node:fs/promises";
import { join } from "node:path";

export type CommandResult = {
	readonly command: string;
	/** Null when it was ended by a signal. */
	readonly exitCode: number | null;
	readonly timedOut: boolean;
	readonly durationMs: number;
	/** The end of stdout and stderr. */
	readonly output: string;
};

const keptOutputLength = 3_200;

/** One handler command as Azure's agents run it: by a shell, in a session of its own, killed with its group when late. */
export async function runCommand(given: {
	readonly name: string;
	readonly words: readonly [string, ...string[]];
	readonly folder: string;
	readonly variables: Readonly<Record<string, string>>;
	readonly limitMs: number;
	readonly logFolder: string;
}): Promise<CommandResult> {
	const begun = performance.now();
	const [program, ...words] = given.words;
	const child = spawn(program, words, {
		cwd: given.folder,
		env: given.variables,
		detached: true,
		stdio: ["ignore", "pipe", "pipe"],
	});
	let output = "";
	for (const stream of [child.stdout, child.stderr])
		stream.setEncoding("utf8").on("data", (text: string) => {
			output = (output + text).slice(-keptOutputLength);
		});
	let timedOut = false;
	const timer = setTimeout(() => {
		timedOut = true;
		endGroup(child.pid);
	}, given.limitMs);
	// Not "close": what the command left running may hold its output open for ever.
	const exitCode = await new Promise<number | null>((resolve) => {
		child.once("error", (error) => {
			output += error.message;
			resolve(null);
		});
		child.once("exit", resolve);
	});
	clearTimeout(timer);
	await new Promise((resolve) => setTimeout(resolve, 20));
	child.stdout.destroy();
	child.stderr.destroy();
	const result = {
		command: given.name,
		exitCode,
		timedOut,
		durationMs: Math.round(performance.now() - begun),
		output,
	};
	await appendFile(join(given.logFolder, "CommandExecution.log"), `${JSON.stringify(result)}\n`).catch(() => undefined);
	return result;
}

function endGroup(leader: number | undefined): void {
	try {
		if (leader !== undefined) process.kill(-leader, "SIGKILL");
	} catch {
		// Nobody is left in it.
	}
}

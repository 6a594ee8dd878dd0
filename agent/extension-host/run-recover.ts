import { spawn } from "node:child_process";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { StillpointError } from "../../contracts/errors.ts";
import { type RecoverAnswer, recoverAnswerSchema } from "../../contracts/extension.ts";
import { within } from "../../platform/within.ts";
import { parseCommandLine } from "./command-line-words.ts";
import { handlerEnvironment } from "./handler-environment.ts";
import type { InstalledExtension } from "./installed-extension.ts";
import { endGroup } from "./run-handler-command.ts";

/** The scripts that it runs have their own deadlines. */
const limitMs = 3_600_000;
/** Of several jobs, each of many scripts with what they printed. */
const answerLimitBytes = 32 * 1024 * 1024;

/**
 * Lets the extension undo what a run of it that was killed left. Undefined: it has left nothing, or has no such command.
 * @throws `extension-failed`, `deadline-passed`, or the signal's reason; what is left is tried again by the next start.
 */
export async function runRecover(
	extension: InstalledExtension,
	runFolder: string,
	signal: AbortSignal,
): Promise<RecoverAnswer | undefined> {
	const command = extension.manifest.handlerManifest.recoverCommand;
	if (command === undefined || !hasLeft(runFolder)) return undefined;
	signal.throwIfAborted();
	const [program, ...words] = parseCommandLine(command, extension.folder);
	const child = spawn(program, words, {
		cwd: extension.folder,
		env: handlerEnvironment(extension),
		detached: true,
		stdio: ["pipe", "pipe", "ignore"],
	});
	let said = "";
	child.stdout.setEncoding("utf8").on("data", (text: string) => {
		if (said.length < answerLimitBytes) said += text;
	});
	const ended = Promise.withResolvers<string>();
	child.on("error", (error) => ended.resolve(error.message));
	child.on("close", (code, by) => ended.resolve(by ?? `exit status ${code}`));
	child.stdin.on("error", () => {});
	child.stdin.write(`${JSON.stringify({ runFolder })}\n`);
	let how: string;
	try {
		how = await within(ended.promise, limitMs, `the recovery by ${extension.name}`, signal);
	} finally {
		endGroup(child.pid);
	}
	try {
		return recoverAnswerSchema.parse(JSON.parse(said));
	} catch (cause) {
		throw new StillpointError("extension-failed", `the recovery by ${extension.name}: ${how}`, { cause });
	}
}

/** By the names alone: what they hold is the extension's own. */
function hasLeft(runFolder: string): boolean {
	try {
		return readdirSync(join(runFolder, "undo")).some((name) => name.endsWith(".json"));
	} catch {
		return false;
	}
}

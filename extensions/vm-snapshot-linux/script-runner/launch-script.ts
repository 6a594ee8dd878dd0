import { realpath } from "node:fs/promises";
import { basename } from "node:path";
import { asStillpointError, StillpointError } from "../../../contracts/errors.ts";
import { within } from "../../../platform/within.ts";
import type { CheckTrust } from "./application-scripts.ts";
import { checkNoSetId } from "./check-script-file.ts";
import { type OpenedScript, openScript } from "./open-script.ts";
import { findScriptArgument, isInterpreter } from "./script-argument.ts";
import { copyScript } from "./script-copy.ts";
import { phaseOf, type RunnableStep, type ScriptContext } from "./script-step.ts";
import { asUser, type ScriptUser } from "./script-user.ts";
import { findAccess } from "./user-access.ts";

/**
 * The number of the folder's descriptor in the script's process. High, because scripts use the low ones themselves
 * (`exec 3>&1`, `flock 9`), and shells take the next free ones from 10 for their own.
 */
export const folderDescriptor = 100;

/** However short the deadline of the script: on a busy machine many small calls take their time. */
const leastLookMs = 5_000;

/** A command that was checked, ready to be started as often as one likes until it is disposed of. */
export type Launch = AsyncDisposable & {
	readonly program: string;
	readonly args: readonly string[];
	readonly argv0?: string;
	/** A descriptor of ours that its processes find as `folderDescriptor`. */
	readonly folder?: number;
	/** Of the script, else of the program. */
	readonly realPath: string;
	readonly environment: Readonly<Record<string, string>>;
	/** After its end. @throws `script-untrusted` when what ran may not be what was checked. */
	checkUnchanged(): Promise<void>;
};

/**
 * Checks what a command would run, and opens it. A text is run as the kernel would, by its interpreter, but through the
 * descriptor of the folder that was checked: `$0` is /proc/self/fd/100/NAME, and its neighbours are beside it.
 * @throws `script-untrusted`, `script-failed`: with what to do about it; nothing was started
 */
export async function prepareLaunch(step: RunnableStep, context: ScriptContext): Promise<Launch> {
	const [program, ...args] = step.command as [string, ...string[]];
	const { checkTrust } = context;
	const ownerOnly = step.ownerOnly === true;
	if (!isInterpreter(program)) {
		await using opened = new AsyncDisposableStack();
		const script = opened.use(await openScript(program, { checkTrust, ownerOnly, as: "program" }));
		if (script.head?.kind === "binary") return launchBinary(script, args, step.user, opened.move());
		const { interpreter = "/bin/sh", argument } = script.head ?? {};
		const before = [interpreter, ...(argument === undefined ? [] : [argument])];
		return await launchText(script, { before, after: args }, { step, context, opened: opened.move() });
	}
	await checkTrust(program);
	const found = findScriptArgument(step.command);
	if (found === undefined || "word" in found) return await launchAsIs(step, found?.word, checkTrust);
	const path = step.command[found.index] ?? "";
	await using opened = new AsyncDisposableStack();
	const script = opened.use(await openScript(path, { checkTrust, ownerOnly, as: "argument" }));
	const words = { before: step.command.slice(0, found.index), after: step.command.slice(found.index + 1) };
	return await launchText(script, words, { step, context, opened: opened.move() });
}

/**
 * The same with a limit: a path may lead to what never answers. What it still opens afterwards is closed
 * again. @throws `script-timeout`, and the signal's reason, too
 */
export async function prepareLaunchWithin(
	step: RunnableStep,
	context: ScriptContext,
	signal: AbortSignal | undefined,
): Promise<Launch> {
	const { name, phase, command } = step;
	const limitMs = Math.max(step.deadlineMs, leastLookMs);
	const preparing = prepareLaunch(step, context);
	try {
		return await within(preparing, limitMs, "looking at it", signal);
	} catch (error) {
		preparing.then((late) => late[Symbol.asyncDispose]()).catch(() => undefined);
		if (asStillpointError(error).code !== "deadline-passed" || signal?.aborted === true) throw error;
		const what = `${phase} script of ${name}: ${command.join(" ")} could not be looked at within ${limitMs} ms`;
		throw new StillpointError("script-timeout", `${what}: does the disk that it lies on answer?`, { cause: error });
	}
}

async function launchText(
	script: OpenedScript,
	words: { before: readonly string[]; after: readonly string[] },
	given: { step: RunnableStep; context: ScriptContext; opened: AsyncDisposableStack },
): Promise<Launch> {
	const { user, mark } = given.step;
	await using opened = given.opened;
	let folder = script.folder.fd;
	let environment = {};
	if (user !== undefined && !(await findAccess(script.realPath, script.stats, user)).reads) {
		const name = `${mark}.${phaseOf(given.step)}`;
		const copy = opened.use(await copyScript(script, { runFolder: given.context.runFolder, name, gid: user.gid }));
		folder = copy.folder;
		// Node would look for the real path of its main file, and that user may not go there.
		environment = { NODE_PRESERVE_SYMLINKS_MAIN: "1" };
	}
	const path = `/proc/self/fd/${folderDescriptor}/${basename(script.realPath)}`;
	const [program, ...args] = commandFor([...words.before, path, ...words.after], user);
	return { program, args, folder, environment, ...rest(script, opened.move()) };
}

async function launchBinary(
	script: OpenedScript,
	args: readonly string[],
	user: ScriptUser | undefined,
	given: AsyncDisposableStack,
): Promise<Launch> {
	await using opened = given;
	const { path, realPath, stats } = script;
	if (user === undefined) {
		const program = `/proc/self/fd/${folderDescriptor}/${basename(realPath)}`;
		return { program, args, argv0: path, folder: script.folder.fd, environment: {}, ...rest(script, opened.move()) };
	}
	checkNoSetId(path, stats);
	if (!(await findAccess(realPath, stats, user)).executes) {
		const what = `${path} cannot be executed by user ${user.name}: give that user access to it and its folders`;
		throw new StillpointError("script-failed", what, { details: { path } });
	}
	const [program, ...words] = commandFor([path, ...args], user);
	return { program, args: words, environment: {}, ...rest(script, opened.move()) };
}

/** No script file: an interpreter with its program text, or with nothing that is an absolute path. */
async function launchAsIs(step: RunnableStep, word: string | undefined, checkTrust: CheckTrust): Promise<Launch> {
	if (word !== undefined) await checkTrust(word);
	const [given = ""] = step.command;
	const realPath = await realpath(given).catch(() => given);
	const [program, ...args] = commandFor(step.command, step.user);
	return {
		program,
		args,
		realPath,
		environment: {},
		checkUnchanged: () => Promise.resolve(),
		[Symbol.asyncDispose]: () => Promise.resolve(),
	};
}

function rest(script: OpenedScript, opened: AsyncDisposableStack) {
	return {
		realPath: script.realPath,
		checkUnchanged: () => script.checkUnchanged(),
		[Symbol.asyncDispose]: () => opened.disposeAsync(),
	};
}

function commandFor(command: readonly string[], user: ScriptUser | undefined): [string, ...string[]] {
	return user === undefined ? (command as [string, ...string[]]) : asUser(user, command);
}

import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { checkShape } from "../../contracts/check-shape.ts";
import { asStillpointError, StillpointError } from "../../contracts/errors.ts";
import {
	type HandlerGoalState,
	handlerGoalStateSchema,
	handlerNameSchema,
} from "../../contracts/handler-goal-state.ts";
import { checkRootOwnedChain } from "../../platform/linux/path-trust.ts";
import { findSmallFile } from "../../platform/read-small-file.ts";
import { checkJson, parseJson } from "../../platform/read-small-json.ts";

export type GoalStates = {
	readonly wanted: ReadonlyMap<string, HandlerGoalState>;
	/** By the handler's name, which is the file's. Such a handler is left as it is. */
	readonly faults: ReadonlyMap<string, StillpointError>;
	/** Files whose names no handler can have. */
	readonly strange: readonly string[];
};

const maxFiles = 256;
const maxFileBytes = 1024 * 1024;
const code = "settings-invalid";

/**
 * Reads the drop-in files (`NAME.json`) of a folder that may be absent. One bad file is only its own handler's fault.
 * @throws `settings-invalid`, `untrusted-path` when that holds for the folder itself
 */
export async function readGoalStates(folder: string): Promise<GoalStates> {
	const found = await readNames(folder);
	const isName = (name: string) => checkShape(handlerNameSchema, name).success;
	const names = found.filter(isName);
	const wanted = new Map<string, HandlerGoalState>();
	const faults = new Map<string, StillpointError>();
	if (names.length > 0) await checkTrust(folder);
	for (const name of names)
		try {
			wanted.set(name, await readGoalState(join(folder, `${name}.json`), name));
		} catch (error) {
			faults.set(name, asStillpointError(error));
		}
	return { wanted, faults, strange: found.filter((name) => !isName(name)).map((name) => `${name}.json`) };
}

/** @throws `settings-invalid` naming the file and the field, `untrusted-path` */
export async function readGoalState(path: string, name: string): Promise<HandlerGoalState> {
	await checkTrust(path);
	const text = await findSmallFile(path, { code, limitBytes: maxFileBytes });
	if (text === undefined) throw new StillpointError(code, `${path} leads to nothing`, { details: { path } });
	const goal = parseGoalState(text, path, name);
	const secrets = [goal, ...Object.values(goal.instances ?? {})].some((one) => one.protectedSettings !== undefined);
	// The text is read again as a secret: what says whether it is one stands inside.
	if (secrets) await findSmallFile(path, { code, limitBytes: maxFileBytes, secret: true });
	return goal;
}

/** Pure. The message of a fault never shows a value of the file: it may be a secret. */
export function parseGoalState(text: string, path: string, name: string): HandlerGoalState {
	let content: unknown;
	try {
		content = parseJson(text, path, code);
	} catch {
		// A JSON parser's message shows some of the text.
		throw new StillpointError(code, `${path} is no JSON`, { details: { path } });
	}
	const goal = checkJson(content, path, { code, schema: handlerGoalStateSchema });
	if (goal.name !== name)
		throw new StillpointError(code, `${path}: name: is ${goal.name}; the file must be called ${goal.name}.json`);
	return goal;
}

async function checkTrust(path: string): Promise<void> {
	if (process.getuid?.() === 0) await checkRootOwnedChain(path);
}

async function readNames(folder: string): Promise<string[]> {
	let entries: string[];
	try {
		entries = await readdir(folder);
	} catch (cause) {
		if ((cause as NodeJS.ErrnoException).code === "ENOENT") return [];
		throw new StillpointError(code, `${folder}: ${(cause as Error).message}`, { cause });
	}
	const names = entries.filter((entry) => entry.endsWith(".json") && !entry.startsWith("."));
	if (names.length > maxFiles) throw new StillpointError(code, `${folder}: more than ${maxFiles} files`);
	return names.map((name) => name.slice(0, -".json".length)).sort();
}

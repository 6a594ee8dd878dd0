import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { asStillpointError, StillpointError } from "../../../contracts/errors.ts";
import { type ScriptDropIn, scriptDropInSchema } from "../../../contracts/script-drop-in.ts";
import { findSmallFile } from "../../../platform/read-small-file.ts";
import { checkJson, parseJson } from "../../../platform/read-small-json.ts";

export type DropIn = ScriptDropIn & {
	/** File name without `.json`. */
	readonly name: string;
};

/** A file that says nothing that could be run. It is an application that can't be proved quiet. */
export type BadDropIn = {
	readonly name: string;
	readonly error: StillpointError;
	/** Its own word, where that could still be read; else `fail`. */
	readonly onFailure: "fail" | "continue";
};

export type DropIns = {
	/** Enabled files, by order, then name. */
	readonly scripts: readonly DropIn[];
	readonly bad: readonly BadDropIn[];
};

/** Rejects with `script-untrusted` when someone who is not root could change the path. */
export type CheckTrust = (path: string) => Promise<void>;

const maxFiles = 256;
const maxFileBytes = 64 * 1024;

/**
 * Reads the drop-in files (`*.json`, no leading dot) of a folder. A folder that does not exist holds none.
 * Throws `script-config-invalid` when the folder can't be read, `script-untrusted` when the folder isn't root's alone.
 */
export async function readDropIns(folder: string, checkTrust: CheckTrust): Promise<DropIns> {
	const names = await readNames(folder);
	if (names.length === 0) return { scripts: [], bad: [] };
	await checkTrust(folder);
	const scripts: DropIn[] = [];
	const bad: BadDropIn[] = [];
	for (const name of names) {
		const path = join(folder, `${name}.json`);
		let content: unknown;
		try {
			await checkTrust(path);
			content = parseJson(await readText(path), path, "script-config-invalid");
			const dropIn = parseDropIn(content, path);
			if (dropIn.enabled) scripts.push({ ...dropIn, name });
		} catch (error) {
			bad.push({ name, error: asStillpointError(error), onFailure: onFailureOf(content) });
		}
	}
	scripts.sort((a, b) => a.order - b.order || compare(a.name, b.name));
	return { scripts, bad };
}

/** @param path stands in the error, which names the field. */
export function parseDropIn(content: unknown, path: string): ScriptDropIn {
	return checkJson(content, path, { code: "script-config-invalid", schema: scriptDropInSchema });
}

async function readNames(folder: string): Promise<string[]> {
	let entries: string[];
	try {
		entries = await readdir(folder);
	} catch (cause) {
		if ((cause as NodeJS.ErrnoException).code === "ENOENT") return [];
		throw new StillpointError("script-config-invalid", `${folder}: ${(cause as Error).message}`, { cause });
	}
	const names = entries.filter((entry) => entry.endsWith(".json") && !entry.startsWith("."));
	if (names.length > maxFiles) {
		throw new StillpointError("script-config-invalid", `${folder}: more than ${maxFiles} files`);
	}
	return names.map((name) => name.slice(0, -".json".length)).sort(compare);
}

async function readText(path: string): Promise<string> {
	const text = await findSmallFile(path, { code: "script-config-invalid", limitBytes: maxFileBytes });
	if (text === undefined) throw new StillpointError("script-config-invalid", `${path} leads to nothing`);
	return text;
}

function onFailureOf(content: unknown): "fail" | "continue" {
	const word = typeof content === "object" && content !== null && "onFailure" in content ? content.onFailure : "fail";
	return word === "continue" ? "continue" : "fail";
}

/** By code unit, so that the order does not depend on the machine's language. */
function compare(a: string, b: string): number {
	return a < b ? -1 : a > b ? 1 : 0;
}

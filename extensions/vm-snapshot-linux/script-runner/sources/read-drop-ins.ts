import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { asStillpointError, StillpointError } from "../../../../contracts/errors.ts";
import { type ScriptDropIn, scriptDropInSchema } from "../../../../contracts/script-drop-in.ts";
import { findSmallFile } from "../../../../platform/read-small-file.ts";
import { checkJson, parseJson } from "../../../../platform/read-small-json.ts";
import type { ApplicationScripts, BadScripts, CheckTrust } from "../application-scripts.ts";
import { findDanglingLink } from "./dangling-link.ts";
import { byCodeUnit } from "./found-scripts.ts";

export type DropIns = {
	/** Of enabled files. */
	readonly scripts: readonly ApplicationScripts[];
	readonly bad: readonly BadScripts[];
};

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
	const scripts: ApplicationScripts[] = [];
	const bad: BadScripts[] = [];
	for (const name of names) {
		const path = join(folder, `${name}.json`);
		let content: unknown;
		try {
			await checkTrust(path);
			content = parseJson(await readText(path), path, "script-config-invalid");
			const dropIn = parseDropIn(content, path);
			if (dropIn.enabled) scripts.push(applicationOf(name, dropIn));
		} catch (error) {
			bad.push({ name, source: "drop-in", error: asStillpointError(error), onFailure: onFailureOf(content) });
		}
	}
	return { scripts, bad };
}

export function applicationOf(name: string, { session, pre, post, runAs, ...rest }: ScriptDropIn): ApplicationScripts {
	return {
		name,
		application: rest.application,
		source: "drop-in",
		order: rest.order,
		onFailure: rest.onFailure,
		dryRun: rest.dryRun,
		keepsProcesses: false,
		ownerOnly: false,
		...(runAs === undefined ? {} : { runAs }),
		...(session === undefined ? {} : { session: { ...session, retries: 0 } }),
		...(pre === undefined ? {} : { pre }),
		...(post === undefined ? {} : { post }),
	};
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
		if ((cause as NodeJS.ErrnoException).code === "ENOENT") {
			const dangling = await findDanglingLink(folder);
			if (dangling === undefined) return [];
			throw new StillpointError("script-config-invalid", `${folder}: the link ${dangling} leads to nothing`);
		}
		throw new StillpointError("script-config-invalid", `${folder}: ${(cause as Error).message}`, { cause });
	}
	const names = entries.filter((entry) => entry.endsWith(".json") && !entry.startsWith("."));
	if (names.length > maxFiles) {
		throw new StillpointError("script-config-invalid", `${folder}: more than ${maxFiles} files`);
	}
	return names.map((name) => name.slice(0, -".json".length)).sort(byCodeUnit);
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

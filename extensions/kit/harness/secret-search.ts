import { readdirSync } from "node:fs";
import { readdir, readFile } from "node:fs/promises";
import { join, relative } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { HandlerHost } from "./handler-host.ts";

/** Shorter texts would be found by chance. */
const shortestSecret = 5;
const lookMs = 50;

export function secretsOf(settings: unknown): string[] {
	if (typeof settings === "string") return settings.length >= shortestSecret ? [settings] : [];
	if (typeof settings !== "object" || settings === null) return [];
	return Object.values(settings).flatMap(secretsOf);
}

/** Files below the folder that hold one of the secrets in plain text. */
export async function findSecretsInFiles(folder: string, secrets: readonly string[]): Promise<string[]> {
	const found: string[] = [];
	if (secrets.length === 0) return found;
	for (const entry of await readdir(folder, { recursive: true, withFileTypes: true })) {
		if (!entry.isFile()) continue;
		const path = join(entry.parentPath, entry.name);
		const content = await readFile(path).catch(() => Buffer.alloc(0));
		if (secrets.some((secret) => content.includes(secret))) found.push(relative(folder, path));
	}
	return found;
}

/** Looks at the command lines of the handler's processes, again and again until it is disposed. */
export function watchCommandLines(host: HandlerHost, secrets: readonly string[], leaks: Set<string>): AsyncDisposable {
	const ended = new AbortController();
	// Those of the machine: looking at all of them, again and again, would keep a core busy.
	const known = new Set(readdirSync("/proc"));
	const watching = (async () => {
		while (secrets.length > 0 && !ended.signal.aborted) {
			for (const { pid, commandLine } of host.newProcesses(known))
				if (secrets.some((secret) => commandLine.includes(secret)))
					leaks.add(`process ${pid} (${commandLine.split(" ")[0]})`);
			await sleep(lookMs);
		}
	})();
	return {
		async [Symbol.asyncDispose]() {
			ended.abort();
			await watching;
		},
	};
}

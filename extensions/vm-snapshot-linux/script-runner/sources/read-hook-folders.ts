/**
 * Folders of hooks that other agents call: fsfreeze-hook.d of the QEMU guest agent, backupScripts.d of VMware's. Each
 * executable file in them is one application. What the packaging systems leave behind is not run, as by qemu-ga's own
 * script; sorted by code unit, and in reverse after the thaw, because that undoes what was done.
 */
import { constants } from "node:fs";
import { access, readdir, realpath, stat } from "node:fs/promises";
import { join } from "node:path";
import { asStillpointError, StillpointError } from "../../../../contracts/errors.ts";
import type { ApplicationScripts, BadScripts, CheckTrust, ScriptSource } from "../application-scripts.ts";
import { byCodeUnit, type FoundScripts } from "./found-scripts.ts";

type HookKind = {
	readonly source: Extract<ScriptSource, "qemu-hook" | "vmware-hook">;
	readonly onFailure: "fail" | "continue";
	readonly thaw: string;
	/** In its place when there is no snapshot. */
	readonly thawWithoutSnapshot?: string;
};

/** The stock script of qemu-ga tells no failure of a hook. */
export const qemuHooks: HookKind = { source: "qemu-hook", onFailure: "continue", thaw: "thaw" };
export const vmwareHooks: HookKind = {
	source: "vmware-hook",
	onFailure: "fail",
	thaw: "thaw",
	thawWithoutSnapshot: "freezeFail",
};

const hookOrder = 500;
const maxHooks = 256;
const leftBehind = /~$|\.(?:bak|orig|rpmnew|rpmorig|rpmsave|sample)$|\.dpkg-[^.]*$/;

/** A file that two folders lead to is found once. */
export async function readHookFolders(
	folders: readonly string[],
	kind: HookKind,
	given: { checkTrust: CheckTrust; deadlineMs: number },
): Promise<FoundScripts> {
	const applications: ApplicationScripts[] = [];
	const bad: BadScripts[] = [];
	const seen = new Set<string>();
	for (const folder of folders) {
		try {
			const hooks = await findHooks(folder);
			if (hooks.length === 0) continue;
			await given.checkTrust(folder);
			for (const hook of hooks) {
				const real = await realpath(join(folder, hook));
				if (seen.has(real)) continue;
				seen.add(real);
				applications.push(applicationOf(join(folder, hook), nameOf(hook), given.deadlineMs));
			}
		} catch (error) {
			bad.push({ name: `${kind.source} ${folder}`, error: asStillpointError(error), onFailure: kind.onFailure });
		}
	}
	return { applications, bad, notes: [] };

	/** Unique also when two folders hold different files of the same name. */
	function nameOf(hook: string): string {
		const name = `${kind.source} ${hook}`;
		const count = applications.filter((one) => one.name === name || one.name.startsWith(`${name} (`)).length;
		return count === 0 ? name : `${name} (${count + 1})`;
	}

	function applicationOf(path: string, name: string, deadlineMs: number): ApplicationScripts {
		const { source, onFailure, thaw, thawWithoutSnapshot } = kind;
		return {
			name,
			application: name,
			source,
			order: hookOrder,
			onFailure,
			pre: { command: [path, "freeze"], deadlineMs, retries: 0 },
			post: {
				command: [path, thaw],
				...(thawWithoutSnapshot === undefined ? {} : { commandWithoutSnapshot: [path, thawWithoutSnapshot] }),
				deadlineMs,
				retries: 0,
			},
			dryRun: false,
			keepsProcesses: true,
			ownerOnly: false,
		};
	}
}

/** File names of what would be called, sorted. */
async function findHooks(folder: string): Promise<string[]> {
	let entries: string[];
	try {
		entries = await readdir(folder);
	} catch (cause) {
		const { code, message } = cause as NodeJS.ErrnoException;
		if (code === "ENOENT") return [];
		throw new StillpointError("script-config-invalid", `${folder}: ${message}`, { cause });
	}
	const names = entries.filter((name) => !name.startsWith(".") && !leftBehind.test(name));
	const runnable = await Promise.all(names.map((name) => isExecutableFile(join(folder, name))));
	const hooks = names.filter((_, index) => runnable[index]).sort(byCodeUnit);
	if (hooks.length > maxHooks)
		throw new StillpointError("script-config-invalid", `${folder}: more than ${maxHooks} files`);
	return hooks;
}

async function isExecutableFile(path: string): Promise<boolean> {
	try {
		await access(path, constants.X_OK);
		return (await stat(path)).isFile();
	} catch {
		return false;
	}
}

/**
 * Folders of hooks that other agents call: fsfreeze-hook.d of the QEMU guest agent, backupScripts.d of VMware's. Each
 * executable file in them is one application. What the packaging systems leave behind is not run, as by qemu-ga's own
 * script; sorted by code unit, and in reverse after the thaw, because that undoes what was done.
 */
import { isUtf8 } from "node:buffer";
import { constants } from "node:fs";
import { access, readdir, realpath, stat } from "node:fs/promises";
import { join } from "node:path";
import { asStillpointError, StillpointError } from "../../../../contracts/errors.ts";
import type { ScriptSource } from "../../../../contracts/report.ts";
import type { ApplicationScripts, BadScripts, CheckTrust } from "../application-scripts.ts";
import { findDanglingLink } from "./dangling-link.ts";
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

/** A file that two folders lead to is found once. @param given.seen where the files of all calls lead to */
export async function readHookFolders(
	folders: readonly string[],
	kind: HookKind,
	given: { checkTrust: CheckTrust; deadlineMs: number; seen: Set<string> },
): Promise<FoundScripts> {
	const applications: ApplicationScripts[] = [];
	const bad: BadScripts[] = [];
	const notes: string[] = [];
	for (const folder of folders) {
		try {
			const { hooks, unused } = await findHooks(folder);
			notes.push(...unused);
			if (hooks.length === 0) continue;
			await given.checkTrust(folder);
			for (const hook of hooks) {
				const real = await realpath(join(folder, hook));
				if (given.seen.has(real)) continue;
				given.seen.add(real);
				applications.push(applicationOf(join(folder, hook), nameOf(hook), given.deadlineMs));
			}
		} catch (error) {
			bad.push({
				name: `${kind.source} ${folder}`,
				source: kind.source,
				error: asStillpointError(error),
				onFailure: kind.onFailure,
			});
		}
	}
	return { applications, bad, notes };

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

/** File names of what would be called, sorted; and for people what looks as if it were meant, and is not called. */
async function findHooks(folder: string): Promise<{ hooks: string[]; unused: string[] }> {
	const fault = (what: string, cause?: unknown) =>
		new StillpointError("script-config-invalid", `${folder}: ${what}`, { cause });
	let entries: Buffer[];
	try {
		entries = await readdir(folder, { encoding: "buffer" });
	} catch (cause) {
		const { code, message } = cause as NodeJS.ErrnoException;
		if (code !== "ENOENT") throw fault(message, cause);
		const dangling = await findDanglingLink(folder);
		if (dangling !== undefined) throw fault(`the link ${dangling} leads to nothing`);
		return { hooks: [], unused: [] };
	}
	const strange = entries.find((entry) => !isUtf8(entry));
	if (strange !== undefined) throw fault(`the name ${strange.toString("latin1")} is no UTF-8: rename it`);
	const names = entries.map(String).filter((name) => !name.startsWith(".") && !leftBehind.test(name));
	const looks = await Promise.all(names.sort(byCodeUnit).map((name) => lookAt(folder, name)));
	const hooks = names.filter((_, index) => looks[index] === "executable");
	if (hooks.length > maxHooks) throw fault(`more than ${maxHooks} files`);
	const unused = names.flatMap((name, index) => {
		const why = whyUnused[looks[index] ?? ""];
		return why === undefined ? [] : [`${join(folder, name)} is not called: it ${why}`];
	});
	return { hooks, unused: unused.slice(0, maxHooks) };
}

const whyUnused: Readonly<Record<string, string>> = {
	dangling: "leads to nothing",
	"not-executable": "is not executable",
	noexec: "lies on a mount with noexec",
};

async function lookAt(folder: string, name: string): Promise<string> {
	const path = join(folder, name);
	const found = await stat(path).catch(() => undefined);
	if (found === undefined) return "dangling";
	if (!found.isFile()) return "none";
	if ((found.mode & 0o111) === 0) return "not-executable";
	// Root may execute it then, unless the mount forbids it.
	return await access(path, constants.X_OK).then(
		() => "executable",
		() => "noexec",
	);
}

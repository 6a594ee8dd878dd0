import { constants } from "node:fs";
import { chmod, chown, copyFile, mkdir, open, rm } from "node:fs/promises";
import { basename, join } from "node:path";
import { StillpointError } from "../../../contracts/errors.ts";
import { type ScriptPhase, scriptPhaseSchema } from "../../../contracts/script-input.ts";
import { type OpenedScript, oPath } from "./open-script.ts";

/** An open folder that holds the copy alone. */
export type ScriptCopy = AsyncDisposable & { readonly folder: number };

/**
 * A copy of the open file that a group may read, for a user who may not read the original. It lies in the run folder,
 * which is root's alone: the user comes to it by the descriptor of its folder only. Removed when it is disposed of.
 */
export async function copyScript(
	script: OpenedScript,
	{ runFolder, name, gid }: { runFolder: string; name: string; gid: number },
): Promise<ScriptCopy> {
	await using made = new AsyncDisposableStack();
	const folder = join(copiesFolder(runFolder), name);
	const file = join(folder, basename(script.realPath));
	try {
		await mkdir(copiesFolder(runFolder), { recursive: true, mode: 0o700 });
		await mkdir(folder, { mode: 0o700 });
		made.defer(() => rm(folder, { recursive: true, force: true }));
		await copyFile(`/proc/self/fd/${script.file.fd}`, file, constants.COPYFILE_EXCL);
		for (const [path, mode] of [[file, 0o550] as const, [folder, 0o750] as const]) {
			await chown(path, 0, gid);
			await chmod(path, mode);
		}
		const opened = made.use(await open(folder, oPath | constants.O_DIRECTORY | constants.O_NOFOLLOW));
		const kept = made.move();
		return { folder: opened.fd, [Symbol.asyncDispose]: () => kept.disposeAsync() };
	} catch (cause) {
		throw new StillpointError("state-unusable", `${folder}: ${(cause as Error).message}`, { cause });
	}
}

/** What a run of these scripts that was killed left. */
export async function removeCopies(runFolder: string, mark: string): Promise<void> {
	const phases: readonly ScriptPhase[] = scriptPhaseSchema.options;
	for (const phase of phases) {
		await rm(join(copiesFolder(runFolder), `${mark}.${phase}`), { recursive: true, force: true });
	}
}

function copiesFolder(runFolder: string): string {
	return join(runFolder, "scripts");
}

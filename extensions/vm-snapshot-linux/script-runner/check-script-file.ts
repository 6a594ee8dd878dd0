import type { BigIntStats } from "node:fs";
import { type FileHandle, lstat, readFile, realpath, stat } from "node:fs/promises";
import { StillpointError } from "../../../contracts/errors.ts";
import { readMountTable } from "../../../platform/linux/mount-table.ts";

/** Where a path leads to. @throws `script-failed` when that is no regular file, with what to do about it. */
export async function findScriptFile(path: string): Promise<string> {
	const real = await realpath(path).catch(async (cause: NodeJS.ErrnoException) => {
		const isLink = await lstat(path).then(
			(found) => found.isSymbolicLink(),
			() => false,
		);
		throw failed(`${path} ${faultOf(cause.code, isLink)}`, path, cause);
	});
	const found = await stat(real, { bigint: true }).catch((cause: Error) => {
		throw failed(`${path}: ${cause.message}`, path, cause);
	});
	const fault = kindFault(found);
	if (fault !== undefined) throw failed(`${path} is ${fault}: name an executable file`, path);
	return real;
}

function faultOf(code: string | undefined, isLink: boolean): string {
	if (code === "ELOOP") return "is one of a circle of links: correct where they lead to";
	if (code === "ENOENT" && isLink) return "is a link that leads to nothing: correct it, or install what it leads to";
	if (code === "ENOENT" || code === "ENOTDIR") return "does not exist: install it, or correct the path";
	return `cannot be looked at (${code})`;
}

function kindFault(found: BigIntStats): string | undefined {
	if (found.isFile()) return undefined;
	if (found.isDirectory()) return "a folder";
	if (found.isFIFO()) return "a named pipe";
	if (found.isSocket()) return "a socket";
	return "a device";
}

/** @throws `script-untrusted` when group or others have any access: the rule of Azure's extension. */
export function checkOwnerOnly(path: string, { mode }: BigIntStats): void {
	if ((mode & 0o077n) === 0n) return;
	const what = `${path} has mode ${octal(mode)}, but only root may have access to it: chmod 700 ${path}`;
	throw new StillpointError("script-untrusted", what, { details: { path } });
}

/** What the kernel would ask of a program that is started by its own name. @throws `script-failed` */
export async function checkExecutable(path: string, { mode }: BigIntStats, file: FileHandle): Promise<void> {
	if ((mode & 0o111n) === 0n) throw failed(`${path} is not executable (mode ${octal(mode)}): chmod u+x ${path}`, path);
	if (await isOnNoexecMount(file)) {
		throw failed(`${path} lies on a mount with noexec: move it, or name its interpreter before it`, path);
	}
}

/** Of a script they do nothing, and of a program they undo `runAs`. @throws `script-failed` */
export function checkNoSetId(path: string, { mode }: BigIntStats): void {
	const bit = (mode & 0o4000n) !== 0n ? "user" : (mode & 0o2000n) !== 0n ? "group" : "";
	if (bit === "") return;
	throw failed(`${path} has the set-${bit}-ID bit (mode ${octal(mode)}): chmod ug-s ${path}`, path);
}

/** By the mount that it was opened through. */
async function isOnNoexecMount(file: FileHandle): Promise<boolean> {
	const id = Number(/^mnt_id:\s*(\d+)$/m.exec(await readFile(`/proc/self/fdinfo/${file.fd}`, "utf8"))?.[1]);
	return (await readMountTable()).find((mount) => mount.id === id)?.options.includes("noexec") === true;
}

function octal(mode: bigint): string {
	return (mode & 0o7777n).toString(8).padStart(4, "0");
}

function failed(what: string, path: string, cause?: unknown): StillpointError {
	return new StillpointError("script-failed", what, { cause, details: { path } });
}

import { type BigIntStats, constants } from "node:fs";
import { type FileHandle, open, stat } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { StillpointError } from "../../../contracts/errors.ts";
import type { CheckTrust } from "./application-scripts.ts";
import { checkExecutable, checkNoSetId, checkOwnerOnly, findScriptFile } from "./check-script-file.ts";
import { headBytes, parseScriptHead, type ScriptHead } from "./script-head.ts";

/** Of fcntl.h; Node has no name for it. A way to what lies in a folder, that tells and permits nothing itself. */
export const oPath = 0o10000000;

/** A script that was checked and is kept open, with its folder, for as long as it runs. */
export type OpenedScript = AsyncDisposable & {
	/** As it was configured. */
	readonly path: string;
	readonly realPath: string;
	readonly file: FileHandle;
	readonly folder: FileHandle;
	readonly stats: BigIntStats;
	/** Undefined when it is run by the interpreter that its command names. */
	readonly head: ScriptHead | undefined;
	/** @throws `script-untrusted` when the path leads to another file by now, or the file was written to or renamed. */
	checkUnchanged(): Promise<void>;
};

/**
 * Walks the path, opens what it leads to without following a link, and walks it again: what was opened is what was
 * checked. Nothing of it is run here. @throws `script-untrusted`, or `script-failed` with what to do about it.
 */
export async function openScript(
	path: string,
	options: { checkTrust: CheckTrust; ownerOnly: boolean; as: "program" | "argument" },
): Promise<OpenedScript> {
	const { checkTrust, ownerOnly, as } = options;
	await using opened = new AsyncDisposableStack();
	const realPath = await findScriptFile(path);
	await checkTrust(path);
	const folder = opened.use(await open(dirname(realPath), oPath | constants.O_DIRECTORY));
	// Not blocking: a pipe that has come in its place must not hold us up.
	const flags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;
	const file = opened.use(await open(join(`/proc/self/fd/${folder.fd}`, basename(realPath)), flags));
	const stats = await file.stat({ bigint: true });
	if (!stats.isFile()) throw replaced(path);
	await checkTrust(path);
	await checkLeadsTo(path, stats);
	if (ownerOnly) checkOwnerOnly(path, stats);
	const head = as === "program" ? parseScriptHead(await readHead(file), path) : undefined;
	if (as === "program") await checkExecutable(path, stats, file);
	if (head?.kind === "text") checkNoSetId(path, stats);
	if (head?.kind === "text") await checkInterpreter(head.interpreter, path, checkTrust);
	const kept = opened.move();
	return {
		path,
		realPath,
		file,
		folder,
		stats,
		head,
		async checkUnchanged() {
			const now = await file.stat({ bigint: true });
			// A rename, a write, and a change of mode or owner set ctime; nobody can set it back.
			if (now.ctimeNs !== stats.ctimeNs) throw replaced(path);
			await checkLeadsTo(path, stats);
		},
		[Symbol.asyncDispose]: () => kept.disposeAsync(),
	};
}

async function checkLeadsTo(path: string, { dev, ino, ctimeNs }: BigIntStats): Promise<void> {
	const now = await stat(path, { bigint: true }).catch(() => undefined);
	if (now === undefined || now.dev !== dev || now.ino !== ino || now.ctimeNs !== ctimeNs) throw replaced(path);
}

async function readHead(file: FileHandle): Promise<Buffer> {
	const { buffer, bytesRead } = await file.read(Buffer.alloc(headBytes), 0, headBytes, 0);
	return buffer.subarray(0, bytesRead);
}

async function checkInterpreter(interpreter: string, path: string, checkTrust: CheckTrust): Promise<void> {
	const found = await stat(interpreter).catch(() => undefined);
	if (found === undefined || !found.isFile()) {
		const what = `the first line of ${path} names ${interpreter}, which ${found === undefined ? "does not exist" : "is no program"}`;
		throw new StillpointError("script-failed", `${what}: install it, or correct the line`, { details: { path } });
	}
	await checkTrust(interpreter);
}

function replaced(path: string): StillpointError {
	const what = `${path} was changed or replaced between its check and its end: what it did counts for nothing`;
	return new StillpointError("script-untrusted", what, { details: { path } });
}

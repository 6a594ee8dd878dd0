/**
 * The second socket: what needs `read` only, for the members of one group. It lies in a folder of its own beside the
 * run folder, because the run folder holds ledgers and undo lists and stays closed to all but root.
 */
import { chmodSync, lchownSync, lstatSync, mkdirSync } from "node:fs";
import { dirname } from "node:path";
import { StillpointError } from "../contracts/errors.ts";
import { readersSocketPath } from "../contracts/local-calls.ts";
import { readGroupId } from "../platform/linux/group-id.ts";
import { type LocalHandlers, serveLocalChannel } from "../platform/local-channel.ts";
import type { Log } from "./log.ts";

type Given = {
	readonly runDir: string;
	/** `readersGroup` of the configuration. */
	readonly group: string;
	readonly handlers: LocalHandlers;
	isFrozen(): boolean;
	readonly log: Log;
	readonly signal: AbortSignal;
};

/** What stands in its way is logged and nothing else: a machine must not be unprotected for want of readers. */
export async function openReadersChannel(given: Given): Promise<AsyncDisposable> {
	const { runDir, group, log, signal } = given;
	const socketPath = readersSocketPath(runDir);
	try {
		const gid = await readGroupId(group, signal);
		prepareReadersFolder(dirname(socketPath), gid);
		return await serveLocalChannel({
			socketPath,
			handlers: withoutScriptOutput(given.handlers),
			isFrozen: given.isFrozen,
			signal,
			readersGid: gid,
			onPeerFault: (error) => log.warn("a reader was cut off", { error }),
		});
	} catch (error) {
		if (signal.aborted) throw error;
		log.warn("the readers' socket is not open", { group, error });
		return { [Symbol.asyncDispose]: () => Promise.resolve() };
	}
}

/** Only root may put anything there; members of the group may enter. @throws `state-unusable` */
function prepareReadersFolder(path: string, gid: number): void {
	const unusable = (why: string, cause?: unknown) =>
		new StillpointError("state-unusable", `${path} ${why}`, { details: { path }, ...(cause ? { cause } : {}) });
	const uid = process.getuid?.() ?? 0;
	try {
		if (lstatSync(path, { throwIfNoEntry: false }) === undefined) mkdirSync(path, { mode: 0o700 });
		const found = lstatSync(path);
		if (!found.isDirectory()) throw unusable("is no folder");
		if (found.uid !== uid) throw unusable(`belongs to uid ${found.uid}`);
		if ((found.mode & 0o022) !== 0) throw unusable("is writable by others");
		lchownSync(path, uid, gid);
		chmodSync(path, 0o750);
	} catch (cause) {
		if (cause instanceof StillpointError) throw cause;
		throw unusable(`cannot be made: ${(cause as NodeJS.ErrnoException).code}`, cause);
	}
}

/** What scripts print is not ours to show around: a careless one prints a password. */
function withoutScriptOutput(handlers: LocalHandlers): LocalHandlers {
	return {
		...handlers,
		"job.report": async (params, caller) => {
			const { report } = await handlers["job.report"](params, caller);
			return { report: { ...report, scripts: report.scripts.map((one) => ({ ...one, outputTail: "" })) } };
		},
	};
}

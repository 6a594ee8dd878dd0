import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { asStillpointError, StillpointError } from "../../contracts/errors.ts";
import { type Ledger, mayBeOurs } from "../../contracts/freezer-protocol.ts";
import { readBootId } from "./boot-id.ts";
import { findLedger } from "./find-ledger.ts";
import { removeLedger } from "./freezer/ledger-file.ts";
import { isSameProcessAlive, type ProcessIdentity } from "./process-identity.ts";
import { restoreExpedited } from "./rcu-expedited.ts";
import { reopenTarget } from "./reopen-target.ts";
import { holdTargets, type RescueResult, rescueThaw } from "./thaw-until-reaped.ts";

export type LedgerThawResult = {
	readonly jobId: string;
	readonly superblock: string;
	readonly mountPoint: string;
	readonly result: RescueResult["result"];
	/** Why it is `thaw-failed`. */
	readonly detail?: string;
	/** The file that is no ledger of ours: what it stands for is not known and was not touched. */
	readonly ledger?: string;
};

export type LedgerThawOptions = {
	/** How long the freezer may take to thaw by itself after SIGTERM, before SIGKILL. */
	readonly askLimitMs?: number;
	/** How long to repeat FITHAW while the killed freezer has a FIFREEZE in flight. */
	readonly rescueLimitMs?: number;
	readonly signal?: AbortSignal;
};

/**
 * Thaws what earlier lives of Stillpoint left frozen, by the ledgers in `runDir`. Only what a ledger of this boot says
 * may be ours is touched, and no call is made that hangs on a frozen disk. A freezer that still runs is asked first.
 * Ledgers whose file systems all answered are removed, and those of another boot: that thawed everything. A file that is
 * no ledger of ours stays and is one result, with `ledger`: somebody must look. `rcu_expedited` of a freezer that was
 * killed is put back.
 * @throws `state-unusable` when the folder can't be read; a folder that does not exist is empty.
 */
export async function thawFromLedgers(runDir: string, options: LedgerThawOptions = {}): Promise<LedgerThawResult[]> {
	const folder = join(runDir, "freezes");
	const [bootId, names] = await Promise.all([readBootId(), listLedgers(folder)]);
	const results: LedgerThawResult[] = [];
	for (const name of names) {
		const path = join(folder, name);
		const ledger = await readLedger(path);
		if (ledger === "absent") continue;
		if (ledger instanceof StillpointError) {
			results.push(notALedger(path, name.slice(0, -".json".length), ledger));
			continue;
		}
		if (ledger.bootId !== bootId) {
			removeLedger(path);
			continue;
		}
		const found = await thawFromLedger(path, ledger, options);
		if (found.every((one) => one.result !== "thaw-failed")) removeLedger(path);
		results.push(...found);
	}
	// Freezers that were killed have ended by now; one that still lives puts it back itself.
	restoreExpedited(folder);
	return results;
}

function notALedger(path: string, jobId: string, why: StillpointError): LedgerThawResult {
	const wayOut = `look whether a file system is frozen (a write to it hangs; fsfreeze -u MOUNTPOINT thaws it), then: rm -r ${path}`;
	return {
		jobId,
		superblock: "",
		mountPoint: "",
		result: "thaw-failed",
		detail: `${why.message}; what it stands for was not touched: ${wayOut}`,
		ledger: path,
	};
}

async function thawFromLedger(path: string, ledger: Ledger, options: LedgerThawOptions): Promise<LedgerThawResult[]> {
	const suspects = suspectsOf(ledger);
	// Opened while the freezer still lives: its own descriptors are a way to what no path leads to.
	const opened = await Promise.all(
		suspects.map(({ state: _state, fd, ...target }) => reopenTarget({ target, fd }, ledger.freezer)),
	);
	using held = holdTargets(opened);
	const askLimit = AbortSignal.timeout(options.askLimitMs ?? 2_000);
	const rescueLimit = AbortSignal.timeout((options.askLimitMs ?? 2_000) + (options.rescueLimitMs ?? 30_000));
	const signal = options.signal === undefined ? rescueLimit : AbortSignal.any([options.signal, rescueLimit]);
	sendSignal(ledger.freezer, "SIGTERM");
	await whenGone(ledger.freezer, AbortSignal.any([askLimit, signal]));
	sendSignal(ledger.freezer, "SIGKILL");
	const now = await readLedger(path);
	const still = now === "absent" ? [] : now instanceof StillpointError ? suspects : suspectsOf(now);
	const mayBe = new Set(still.map(({ superblock }) => superblock));
	const byItself = suspects.filter(({ superblock }) => !mayBe.has(superblock));
	const folders = held.folders.filter(({ target }) => mayBe.has(target.superblock));
	const rescued = await rescueThaw(folders, { until: whenGone(ledger.freezer, signal), signal });
	return [
		// Its ledger no longer names them: the freezer thawed them when it was asked. No need to touch them.
		...byItself.map(({ superblock, mountPoint }) => ({
			jobId: ledger.jobId,
			superblock,
			mountPoint,
			result: "thawed" as const,
		})),
		...rescued.map(({ errno, ...one }) => ({
			jobId: ledger.jobId,
			...one,
			...(errno === undefined ? {} : { detail: `FITHAW answered ${errno}` }),
		})),
		...held.faults
			.filter(({ target }) => mayBe.has(target.superblock))
			.map(({ target, message }) => ({
				jobId: ledger.jobId,
				superblock: target.superblock,
				mountPoint: target.mountPoint,
				result: "thaw-failed" as const,
				detail: message,
			})),
	];
}

async function listLedgers(folder: string): Promise<string[]> {
	try {
		return (await readdir(folder)).filter((name) => name.endsWith(".json"));
	} catch (cause) {
		if ((cause as NodeJS.ErrnoException).code === "ENOENT") return [];
		throw new StillpointError("state-unusable", `${folder} cannot be read`, { cause, details: { path: folder } });
	}
}

function suspectsOf(ledger: Ledger): Ledger["fileSystems"] {
	return ledger.fileSystems.filter((one) => mayBeOurs(one.state));
}

/** A fault is told, not thrown: another ledger may be good. */
async function readLedger(path: string): Promise<Ledger | "absent" | StillpointError> {
	try {
		return (await findLedger(path)) ?? "absent";
	} catch (error) {
		return asStillpointError(error);
	}
}

function sendSignal(identity: ProcessIdentity, signal: NodeJS.Signals): void {
	if (!isSameProcessAlive(identity)) return;
	try {
		process.kill(identity.pid, signal);
	} catch {
		// It ended in between.
	}
}

async function whenGone(identity: ProcessIdentity, signal: AbortSignal): Promise<void> {
	while (isSameProcessAlive(identity) && !signal.aborted) await sleep(10);
}

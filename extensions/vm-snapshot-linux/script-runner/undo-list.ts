import { mkdirSync, readdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";
import { asStillpointError, StillpointError } from "../../../contracts/errors.ts";
import { type ScriptJob, scriptJobSchema } from "../../../contracts/script-input.ts";
import { findProcessIdentity } from "../../../platform/linux/process-identity.ts";
import { findSmallJsonSync } from "../../../platform/read-small-json.ts";
import type { OnRuns } from "./script-step.ts";

const identity = z.strictObject({ pid: z.int().positive(), startTime: z.string() });
const commandLine = z.array(z.string()).min(1);
const step = z.strictObject({
	application: z.string(),
	/** What its processes are known by; version 1 had none, and knew their group only. */
	mark: z.string().optional(),
	/** Which of its scripts may run, and the leader of that one's process group, as soon as it is known. */
	phase: z.enum(["pre", "post", "session"]).optional(),
	process: identity.optional(),
	/** The leader of a pre that ended well and keeps processes until its post has ended. */
	kept: identity.optional(),
	/** It lets go by itself when its stdin ends: it is given its deadline for that. */
	isSession: z.boolean().optional(),
	deadlineMs: z.number(),
	runAs: z.string().optional(),
	ownerOnly: z.boolean().optional(),
	post: z
		.strictObject({
			command: commandLine,
			commandWithoutSnapshot: commandLine.optional(),
			deadlineMs: z.number(),
			retries: z.int().optional(),
		})
		.optional(),
});
export type UndoStep = z.output<typeof step>;

const undoFileSchema = z.strictObject({
	/** 1: before there were marks, users and retries. */
	version: z.union([z.literal(1), z.literal(2)]),
	job: scriptJobSchema.extend({ fileSystems: scriptJobSchema.shape.fileSystems.default([]) }),
	/** Who undoes it as long as it lives. */
	owner: identity,
	/** Who does it when that one is gone, as long as it lives. */
	undoneBy: identity.optional(),
	/** In the order of their start. */
	steps: z.array(step),
});
export type UndoFile = z.output<typeof undoFileSchema>;

/** What somebody else must undo when this process is killed: scripts that were started, and what their post is. */
export type UndoList = {
	/** Before a script of the step is started. @throws `state-unusable`: then it must not be started. */
	add(step: UndoStep): UndoEntry;
};
export type UndoEntry = {
	/** To be told what of a script runs. */
	runs(phase: NonNullable<UndoStep["phase"]>): OnRuns;
	/** What runs now will have ended well, and leave processes that stay until the post has ended. */
	keeps(): void;
	/** There is nothing left of it to undo. */
	remove(): void;
};

/** More than any set of drop-ins makes; what would be longer is not begun, because nobody could read it. */
const limitMiB = 64;
const limitBytes = limitMiB * 1024 * 1024;

export const undoFolder = (runFolder: string) => join(runFolder, "undo");

/** Kept in the run folder (tmpfs, root's own), so that it is written while disks are frozen, and outlives a kill. */
export function openUndoList(runFolder: string, job: ScriptJob): UndoList {
	const owner = findProcessIdentity(process.pid);
	const path = join(undoFolder(runFolder), `${job.jobId}.json`);
	let steps: UndoStep[] = [];

	function save(): void {
		if (owner === undefined) throw new StillpointError("state-unusable", "/proc tells nothing of this process");
		if (steps.length === 0) rmSync(path, { force: true });
		else writeUndoFile(path, { version: 2, job, owner, steps });
	}
	/** What is only brought up to date may fail: the older word makes a recovery do too much, not too little. */
	function update(): void {
		try {
			save();
		} catch {
			// See above.
		}
	}
	return {
		add(given) {
			let current = given;
			const replace = (next: UndoStep[]) => {
				steps = steps.flatMap((one) => (one === current ? next : [one]));
				[current = current] = next;
				update();
			};
			steps = [...steps, given];
			try {
				mkdirSync(undoFolder(runFolder), { recursive: true, mode: 0o700 });
				save();
			} catch (cause) {
				steps = steps.filter((one) => one !== given);
				throw new StillpointError("state-unusable", `${path}: ${asStillpointError(cause).message}`, { cause });
			}
			return {
				runs: (phase) => (what) => {
					const { process: _, phase: __, ...rest } = current;
					const found = typeof what === "number" ? findProcessIdentity(what) : undefined;
					if (what === undefined) replace([rest]);
					else replace([{ ...rest, phase, ...(found === undefined ? {} : { process: found }) }]);
				},
				keeps() {
					if (current.process !== undefined) replace([{ ...current, kept: current.process }]);
				},
				remove: () => replace([]),
			};
		},
	};
}

/** Readers never see half of it. */
export function writeUndoFile(path: string, content: UndoFile): void {
	const text = JSON.stringify(content);
	if (Buffer.byteLength(text) > limitBytes) throw new StillpointError("state-unusable", `more than ${limitMiB} MiB`);
	writeFileSync(`${path}.new`, text, { mode: 0o600 });
	renameSync(`${path}.new`, path);
}

/** What former runs left, each with its path; what can't be read is told and left where it is. */
export function readUndoFiles(
	runFolder: string,
	onBad: (error: StillpointError) => void,
): { path: string; content: UndoFile }[] {
	return listNames(undoFolder(runFolder)).flatMap((name) => {
		const path = join(undoFolder(runFolder), name);
		try {
			const is = { code: "state-unusable", limitBytes, ownOnly: true, schema: undoFileSchema } as const;
			const content = findSmallJsonSync(path, is);
			return content === undefined ? [] : [{ path, content }];
		} catch (error) {
			onBad(asStillpointError(error));
			return [];
		}
	});
}

function listNames(folder: string): string[] {
	try {
		return readdirSync(folder).filter((name) => name.endsWith(".json"));
	} catch {
		return [];
	}
}

/**
 * The command of a handler that runs, or ran and was not yet taken into account, as a file: an agent that was killed
 * meanwhile takes up the command in its next life, instead of running it twice.
 */
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { findSmallFile } from "../../platform/read-small-file.ts";
import { findSmallJson } from "../../platform/read-small-json.ts";
import type { PrivateFolders } from "./handler-place.ts";
import { replaceFile } from "./replace-file.ts";

const slotSchema = z.strictObject({
	/** What is done to which version with which settings: only the same may be taken up. */
	key: z.string(),
	token: z.string(),
	bootId: z.string(),
	startedAt: z.iso.datetime(),
});
export type CommandSlot = z.infer<typeof slotSchema>;

export function slotResultPath(folders: PrivateFolders): string {
	return join(folders.folder, "command.result");
}

function slotPath(folders: PrivateFolders): string {
	return join(folders.folder, "command.json");
}

/** One that cannot be read is none. */
export async function findSlot(folders: PrivateFolders): Promise<CommandSlot | undefined> {
	const is = { code: "state-unusable", limitBytes: 16_384, schema: slotSchema } as const;
	return await findSmallJson(slotPath(folders), is).catch(() => undefined);
}

export async function writeSlot(folders: PrivateFolders, slot: CommandSlot): Promise<void> {
	await rm(slotResultPath(folders), { force: true });
	await replaceFile(slotPath(folders), JSON.stringify(slot));
}

export async function dropSlot(folders: PrivateFolders): Promise<void> {
	await rm(slotPath(folders), { force: true });
	await rm(slotResultPath(folders), { force: true });
}

export type SlotResult = {
	readonly began: boolean;
	readonly exitStatus?: number;
};

/** What the shell around the command told: whether the command began, and its exit status once it ended. */
export async function readSlotResult(folders: PrivateFolders): Promise<SlotResult> {
	const is = { code: "state-unusable", limitBytes: 4_096 } as const;
	const text = (await findSmallFile(slotResultPath(folders), is).catch(() => undefined)) ?? "";
	const status = /^exit (\d{1,3})$/m.exec(text)?.[1];
	return {
		began: /^ready$/m.test(text),
		...(status === undefined ? {} : { exitStatus: Number(status) }),
	};
}

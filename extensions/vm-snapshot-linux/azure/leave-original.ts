import { rm } from "node:fs/promises";
import { join } from "node:path";
import { blankProtectedSettings } from "../../kit/blank-protected-settings.ts";
import type { TaskStore } from "./task-store.ts";

/** On a copy of the machine: the secrets of the original go, and none of its numbers was done here. */
export async function leaveOriginal(
	store: TaskStore,
	given: {
		readonly packageFolder: string;
		readonly configFolder: string;
		/** What the host has written anew. */
		readonly sequenceNumber: number | undefined;
	},
): Promise<void> {
	if (store.copiedNumbers === undefined) return;
	for (const number of store.copiedNumbers.filter((one) => one !== given.sequenceNumber)) {
		await blankProtectedSettings(join(given.configFolder, `${number}.settings`)).catch(() => undefined);
	}
	await rm(join(given.packageFolder, "mrseq"), { force: true });
	await store.save();
}

import type { ProcessCalls } from "../../platform/linux/freeze-calls.ts";

export type Pinned = { hold(): void; letGo(): void };

/**
 * Keeps the program's pages in memory while there is a hold, from before its freeze. They are some 110 MiB, shared with
 * every other process of Node: pinned for ever, a small machine would miss them.
 */
export function pinWhileHeld(calls: Pick<ProcessCalls, "pinProgram" | "unpinProgram">): Pinned {
	let isPinned = false;
	return {
		hold() {
			if (isPinned) return;
			isPinned = true;
			calls.pinProgram();
		},
		letGo() {
			if (!isPinned) return;
			isPinned = false;
			calls.unpinProgram();
		},
	};
}

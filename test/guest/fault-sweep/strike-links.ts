/** What lies between the machine and others: its link, and its wall clock. */
import { writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { AgentFoldersFixture } from "../../fixtures/agent-process.ts";
import { type Scene, type Struck, stallMs } from "./scene.ts";

export async function strikeLink({ lane, random }: Scene, fault: string): Promise<Struck> {
	const lastsMs = Math.round(200 + random() * (stallMs - 200));
	if (fault === "closed") lane.relay?.close();
	else lane.relay?.stall();
	return {
		note: `for ${lastsMs} ms`,
		async settle() {
			await sleep(lastsMs);
			lane.relay?.open();
		},
	};
}

export async function strikeClock({ lane, random }: Scene, fault: string): Promise<Struck> {
	const days = Math.ceil(random() * 20);
	const offset = clockFile(lane.folders);
	writeFileSync(offset, `${fault === "ahead" ? "+" : "-"}${days}d`);
	return {
		note: `${days} days`,
		async settle() {
			await sleep(stallMs);
			writeFileSync(offset, "+0d");
		},
	};
}

/** How far the wall clock of a lane is off, read at each look. */
export function clockFile(folders: AgentFoldersFixture): string {
	return join(dirname(folders.flags.runDir), "clock-offset");
}

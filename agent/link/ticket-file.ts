/** The ticket of the latest connection, on disk: `contracts/controller-messages.ts` says what it proves. */
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { findSmallJsonSync } from "../../platform/read-small-json.ts";
import type { WriteHold } from "../write-hold.ts";
import { writePrivateFile } from "./private-file.ts";

const ticketSchema = z.strictObject({
	version: z.literal(1),
	/** A ticket of a former enrolment is no good for this one. */
	agentId: z.string(),
	ticket: z.string(),
});

export type TicketFile = {
	/**
	 * What the next hello must show. From here on no ticket that `keep` was given before is written any more: shown and
	 * kept would differ, and the controller takes the agent for a copy. @throws `state-unusable`
	 */
	find(agentId: string): Promise<string | undefined>;
	/** True when a power cut does not lose it any more; false when a later connection came between. */
	keep(agentId: string, ticket: string): Promise<boolean>;
};

export async function removeTicket(stateDir: string): Promise<void> {
	await rm(ticketPath(stateDir), { force: true });
}

function ticketPath(stateDir: string): string {
	return join(stateDir, "enrolment", "ticket.json");
}

export function makeTicketFile(stateDir: string, hold: WriteHold): TicketFile {
	const path = ticketPath(stateDir);
	const state = { wanted: undefined as string | undefined, writing: undefined as Promise<void> | undefined };
	return {
		async find(agentId) {
			state.wanted = undefined;
			await state.writing?.catch(() => undefined);
			const kept = findSmallJsonSync(path, {
				code: "state-unusable",
				limitBytes: 4_096,
				refuseLinks: true,
				ownOnly: true,
				secret: true,
				schema: ticketSchema,
			});
			return kept?.agentId === agentId ? kept.ticket : undefined;
		},
		async keep(agentId, ticket) {
			state.wanted = ticket;
			return await hold.write(async () => {
				if (state.wanted !== ticket) return false;
				state.writing = writePrivateFile(path, { version: 1, agentId, ticket });
				await state.writing;
				return true;
			});
		},
	};
}

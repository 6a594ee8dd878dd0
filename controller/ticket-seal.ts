import { createHmac, timingSafeEqual } from "node:crypto";

/** `counter` grows by one with each connection of its agent; `random` tells apart two with the same counter. */
export type Ticket = { readonly counter: number; readonly random: string };

/** A ticket as text is `COUNTER.RANDOM.MAC`: only this controller can have made it, and for this agent alone. */
export type TicketSeal = {
	format(agentId: string, ticket: Ticket): string;
	/** Undefined for a text that this controller, at whatever time, did not make for the agent. */
	parse(agentId: string, text: string): Ticket | undefined;
};

const pattern = /^([1-9][0-9]{0,14})\.([\w-]{16,64})\.([\w-]{43})$/;

/** @param secret must come back with a backup of the controller: it tells old tickets from foreign ones. */
export function makeTicketSeal(secret: Uint8Array): TicketSeal {
	// No agent id has a line break.
	const seal = (agentId: string, counter: number, random: string) =>
		createHmac("sha256", secret).update(`${agentId}\n${counter}.${random}`).digest();
	return {
		format: (agentId, { counter, random }) =>
			`${counter}.${random}.${seal(agentId, counter, random).toString("base64url")}`,
		parse(agentId, text) {
			const [, digits, random, mac] = pattern.exec(text) ?? [];
			if (digits === undefined || random === undefined || mac === undefined) return undefined;
			const counter = Number(digits);
			const shown = Buffer.from(mac, "base64url");
			return timingSafeEqual(seal(agentId, counter, random), shown) ? { counter, random } : undefined;
		},
	};
}

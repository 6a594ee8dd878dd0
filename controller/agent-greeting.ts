/** Whether a connection with a good certificate is really that of the agent that was enrolled. */
import { randomBytes } from "node:crypto";
import { StillpointError } from "../contracts/errors.ts";
import type { Hello } from "./agent-link.ts";
import type { Log } from "./log.ts";
import type { Store, StoredAgent } from "./store.ts";
import type { TicketSeal } from "./ticket-seal.ts";

/** Less than certificates are backdated by. */
const clockWarningMs = 300_000;

export type GreetingParts = {
	readonly store: Pick<Store, "findAgent" | "exchangeTicket" | "setSeen">;
	readonly seal: TicketSeal;
	readonly log: Log;
	/** An agent knows of a later time than this controller: what was stored since is lost. */
	readonly onPutBack: (agentId: string) => Promise<void>;
};

/** @throws `not-enrolled`, `certificate-revoked` */
export async function requireAgentInForce(store: Pick<Store, "findAgent">, agentId: string): Promise<StoredAgent> {
	const agent = await store.findAgent(agentId);
	if (agent === undefined) throw new StillpointError("not-enrolled", `this controller does not know agent ${agentId}`);
	if (agent.revoked === undefined) return agent;
	const { at, reason } = agent.revoked;
	throw new StillpointError("certificate-revoked", `agent ${agentId} was revoked on ${at}: ${reason}`);
}

/**
 * What `hello` must pass before `welcome`. Answers with the next ticket.
 * @throws `not-enrolled`, `certificate-revoked`, `identity-changed`: then nothing of the agent's record was changed.
 */
export async function greetAgent(
	{ store, seal, log, onPutBack }: GreetingParts,
	agentId: string,
	hello: Hello,
): Promise<string> {
	const { machine } = await requireAgentInForce(store, agentId);
	const other = findOtherPart(machine, hello.machine);
	if (other !== undefined)
		throw new StillpointError("identity-changed", `agent ${agentId} was enrolled with another ${other}`);
	warnOfClock(log, agentId, hello.time);
	const shown = hello.ticket === undefined ? undefined : seal.parse(agentId, hello.ticket);
	const random = randomBytes(24).toString("base64url");
	const { is, counter } = await store.exchangeTicket(agentId, shown, random);
	if (is === "changed") {
		const showed = hello.ticket === undefined ? "no ticket" : "an old ticket";
		const what = `agent ${agentId} showed ${showed}: its state is a copy, or was put back to an earlier time`;
		throw new StillpointError("identity-changed", what);
	}
	if (is === "ahead") await onPutBack(agentId);
	await store.setSeen(agentId, new Date().toISOString(), hello.machine);
	return seal.format(agentId, { counter, random });
}

/** The agent has kept the ticket: the one before is no longer good. */
export async function confirmTicket(
	{ store, seal }: { readonly store: Pick<Store, "confirmTicket">; readonly seal: TicketSeal },
	agentId: string,
	text: string,
): Promise<void> {
	const ticket = seal.parse(agentId, text);
	if (ticket !== undefined) await store.confirmTicket(agentId, ticket);
}

/** Only parts that both sides know are compared. */
function findOtherPart(enrolled: StoredAgent["machine"], now: Hello["machine"]): string | undefined {
	const isOther = (part: "machineId" | "systemUuid") =>
		enrolled[part] !== undefined && now[part] !== undefined && enrolled[part] !== now[part];
	return isOther("machineId") ? "machine id" : isOther("systemUuid") ? "SMBIOS UUID" : undefined;
}

function warnOfClock(log: Log, agentId: string, agentTime: string | undefined): void {
	if (agentTime === undefined) return;
	const now = new Date();
	const differenceMs = Date.parse(agentTime) - now.getTime();
	if (Math.abs(differenceMs) < clockWarningMs) return;
	log.warn("the clock of an agent differs", { agentId, agentTime, controllerTime: now.toISOString(), differenceMs });
}

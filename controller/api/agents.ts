import { z } from "zod";
import { revocationSchema } from "../../contracts/controller-api.ts";
import { type AgentRecord, agentRecordSchema, diskMappingsSchema } from "../../contracts/controller-messages.ts";
import { StillpointError } from "../../contracts/errors.ts";
import { agentStatusSchema } from "../../contracts/local-calls.ts";
import { checkMappings } from "../disk-mapping.ts";
import type { StoredAgent } from "../store.ts";
import { type ApiParts, defineRoute } from "./route.ts";
import { agentParams, jsonBody, noBody, nothing } from "./route-parts.ts";

const requestLimitMs = 15_000;
const at = { tag: "Agents", query: nothing } as const;

function showAgent({ links }: ApiParts, agent: StoredAgent): AgentRecord {
	return { ...agent, disks: [...agent.disks], connected: links.isConnected(agent.agentId) };
}

async function readAgent(parts: ApiParts, agentId: string): Promise<AgentRecord> {
	const agent = await parts.store.findAgent(agentId);
	if (agent === undefined) throw noAgent(agentId);
	return showAgent(parts, agent);
}

function noAgent(agentId: string): StillpointError {
	return new StillpointError("not-found", `no agent ${agentId}`);
}

export const agentRoutes = [
	defineRoute({
		...at,
		id: "listAgents",
		method: "GET",
		path: "/v1/agents",
		access: "viewer",
		summary: "The enrolled agents, the oldest first.",
		params: nothing,
		status: 200,
		answer: z.object({ agents: z.array(agentRecordSchema) }),
		errors: [],
		handle: async (parts) => ({ agents: (await parts.store.listAgents()).map((one) => showAgent(parts, one)) }),
	}),
	defineRoute({
		...at,
		id: "readAgent",
		method: "GET",
		path: "/v1/agents/{agentId}",
		access: "viewer",
		summary: "One agent.",
		params: agentParams,
		status: 200,
		answer: agentRecordSchema,
		errors: ["not-found"],
		handle: (parts, { params }) => readAgent(parts, params.agentId),
	}),
	defineRoute({
		...at,
		id: "readAgentStatus",
		method: "GET",
		path: "/v1/agents/{agentId}/status",
		access: "viewer",
		summary: "How the agent is, asked of it now.",
		params: agentParams,
		status: 200,
		answer: z.object({ status: agentStatusSchema }),
		errors: ["not-found", "agent-offline", "deadline-passed", "job-running"],
		async handle(parts, { params }) {
			const { agentId } = await readAgent(parts, params.agentId);
			const status = await parts.links.request(agentId, "status", requestLimitMs);
			// What an agent says is passed on as it is; who reads it checks it.
			return { status: status as z.output<typeof agentStatusSchema> };
		},
	}),
	defineRoute({
		...at,
		id: "readAgentInventory",
		method: "GET",
		path: "/v1/agents/{agentId}/inventory",
		access: "viewer",
		summary: "Hardware, disks and file systems of the agent's machine, asked of it now.",
		params: agentParams,
		status: 200,
		answer: z.object({ inventory: z.record(z.string(), z.unknown()) }),
		errors: ["not-found", "agent-offline", "deadline-passed", "job-running"],
		async handle(parts, { params }) {
			const { agentId } = await readAgent(parts, params.agentId);
			const inventory = await parts.links.request(agentId, "inventory", requestLimitMs);
			return { inventory: inventory as Record<string, unknown> };
		},
	}),
	defineRoute({
		...at,
		id: "mapDisks",
		method: "PUT",
		path: "/v1/agents/{agentId}/disks",
		access: "operator",
		summary: "Say where the disks of the agent's machine lie on the controller's host.",
		description: "Replaces what was said before.",
		params: agentParams,
		body: jsonBody(diskMappingsSchema, "order-invalid"),
		status: 200,
		answer: agentRecordSchema,
		errors: ["not-found", "order-invalid"],
		audit: {
			action: "agent.map-disks",
			tell: ({ params, body }) => ({
				target: params.agentId,
				details: { disks: body.disks.slice(0, 16).map(({ name, image }) => `${name}=${image}`) },
			}),
		},
		async handle(parts, { params, body }) {
			checkMappings(body.disks);
			if (!(await parts.store.setDisks(params.agentId, body.disks))) throw noAgent(params.agentId);
			return readAgent(parts, params.agentId);
		},
	}),
	defineRoute({
		...at,
		id: "revokeAgent",
		method: "POST",
		path: "/v1/agents/{agentId}/revoke",
		access: "operator",
		summary: "Refuse the agent's certificates from now on, and end its link.",
		description: "To come back it must be enrolled with a new token; it gets a new id.",
		params: agentParams,
		body: jsonBody(revocationSchema, "message-invalid"),
		status: 200,
		answer: agentRecordSchema,
		errors: ["not-found"],
		audit: {
			action: "agent.revoke",
			tell: ({ params, body }) => ({ target: params.agentId, details: { reason: body.reason } }),
		},
		async handle(parts, { params: { agentId }, body }) {
			const now = new Date().toISOString();
			if (!(await parts.store.revokeAgent(agentId, now, body.reason))) throw noAgent(agentId);
			parts.links.refuse(agentId, new StillpointError("certificate-revoked", `agent ${agentId} was revoked at ${now}`));
			return readAgent(parts, agentId);
		},
	}),
	defineRoute({
		...at,
		id: "removeAgent",
		method: "DELETE",
		path: "/v1/agents/{agentId}",
		access: "operator",
		summary: "Forget the agent, and end its link.",
		description: "Its certificates are refused as unknown. Its jobs, reports and recovery points stay.",
		params: agentParams,
		body: noBody,
		status: 200,
		answer: z.object({ removed: z.string() }),
		errors: ["not-found"],
		audit: { action: "agent.remove", tell: ({ params }) => ({ target: params.agentId }) },
		async handle({ store, links }, { params: { agentId } }) {
			if (!(await store.removeAgent(agentId))) throw noAgent(agentId);
			links.refuse(agentId, new StillpointError("not-enrolled", `agent ${agentId} was removed`));
			return { removed: agentId };
		},
	}),
];

import { z } from "zod";
import { enrolmentRequestRecordSchema } from "../../contracts/controller-api.ts";
import {
	enrolmentRequestSchema,
	enrolRequestSchema,
	enrolResponseSchema,
	tokenRequestSchema,
	tokenResponseSchema,
} from "../../contracts/controller-messages.ts";
import { StillpointError } from "../../contracts/errors.ts";
import { idSchema } from "../../contracts/order.ts";
import { defineRoute } from "./route.ts";
import { jsonBody, noBody, nothing, openJsonBody } from "./route-parts.ts";

const at = { tag: "Enrolment", query: nothing } as const;

export const enrolmentRoutes = [
	defineRoute({
		...at,
		id: "enrol",
		method: "POST",
		path: "/v1/enrol",
		access: "anybody",
		summary: "Enrol an agent: its certificate for a token and a certificate request.",
		description: "The token is used up. Why one is refused is not told.",
		params: nothing,
		body: openJsonBody(enrolRequestSchema),
		status: 201,
		answer: enrolResponseSchema,
		errors: ["token-invalid", "certificate-invalid"],
		audit: {
			action: "agent.enrol",
			tell: ({ body }, answer) => ({ target: answer?.agentId, details: { hostname: body.machine.hostname } }),
		},
		admit: ({ enrolment }, { token }) => enrolment.requireUsableToken(token),
		handle: ({ enrolment }, { body }) => enrolment.enrol(body),
	}),
	defineRoute({
		...at,
		id: "createToken",
		method: "POST",
		path: "/v1/tokens",
		access: "operator",
		summary: "Make a one-time token that enrols one agent.",
		params: nothing,
		body: jsonBody(tokenRequestSchema, "message-invalid"),
		status: 201,
		answer: tokenResponseSchema,
		errors: [],
		audit: {
			action: "token.create",
			tell: ({ body }, answer) => ({
				details: { validMs: body.validMs, ...(answer === undefined ? {} : { tokenId: answer.token.split(".")[1] }) },
			}),
		},
		handle: ({ enrolment }, { body }) => enrolment.makeToken(body.validMs),
	}),
	defineRoute({
		...at,
		id: "requestEnrolment",
		method: "POST",
		path: "/v1/enrolment-requests",
		access: "anybody",
		summary: "Ask to be enrolled; a person decides.",
		description: "For a machine that found out that it is a copy, or whose certificate is no longer good.",
		params: nothing,
		body: openJsonBody(enrolmentRequestSchema),
		status: 202,
		answer: z.object({ id: z.string() }),
		errors: [],
		audit: { action: "enrolment.request", claim: true },
		async handle({ enrolment, events, audit }, { body, address, actor }) {
			const request = await enrolment.requestEnrolment(body, address);
			const { id, formerAgentId, reason } = request;
			const deed = { actor, action: "enrolment.request", target: body.machine.hostname };
			// A machine that asks again and again, and a flood, push nothing else out of the events that are kept.
			if (await audit.noteRepeatable({ ...deed, details: { requestId: id, formerAgentId, reason } }, "ok"))
				events.publish({ type: "enrolment-request", request });
			return { id };
		},
	}),
	defineRoute({
		...at,
		id: "listEnrolmentRequests",
		method: "GET",
		path: "/v1/enrolment-requests",
		access: "viewer",
		summary: "Machines that want to be enrolled, the newest first.",
		description: "What stands in a request is the asker's claim: nothing of it was proved.",
		params: nothing,
		status: 200,
		answer: z.object({ requests: z.array(enrolmentRequestRecordSchema) }),
		errors: [],
		handle: async ({ store }) => ({ requests: await store.listEnrolmentRequests() }),
	}),
	defineRoute({
		...at,
		id: "removeEnrolmentRequest",
		method: "DELETE",
		path: "/v1/enrolment-requests/{requestId}",
		access: "operator",
		summary: "Remove a request that was dealt with.",
		params: z.strictObject({ requestId: idSchema }),
		body: noBody,
		status: 200,
		answer: z.object({ removed: z.string() }),
		errors: ["not-found"],
		audit: { action: "enrolment.remove-request", tell: ({ params }) => ({ target: params.requestId }) },
		async handle({ store }, { params: { requestId } }) {
			if (!(await store.removeEnrolmentRequest(requestId)))
				throw new StillpointError("not-found", `no enrolment request ${requestId}`);
			return { removed: requestId };
		},
	}),
];

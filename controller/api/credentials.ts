import { z } from "zod";
import { credentialRequestSchema, credentialResponseSchema, credentialSchema } from "../../contracts/controller-api.ts";
import { idSchema } from "../../contracts/order.ts";
import { defineRoute } from "./route.ts";
import { jsonBody, noBody, nothing } from "./route-parts.ts";

const at = { tag: "Credentials", query: nothing } as const;

export const credentialRoutes = [
	defineRoute({
		...at,
		id: "listCredentials",
		method: "GET",
		path: "/v1/credentials",
		access: "viewer",
		summary: "Who may use this API, also who might once.",
		params: nothing,
		status: 200,
		answer: z.object({ credentials: z.array(credentialSchema) }),
		errors: [],
		handle: async ({ credentials }) => ({ credentials: await credentials.list() }),
	}),
	defineRoute({
		...at,
		id: "issueCredential",
		method: "POST",
		path: "/v1/credentials",
		access: "operator",
		summary: "Issue a client certificate for a key that somebody else keeps.",
		description: "Of the certificate request only the public key counts; name and role are those of the body.",
		params: nothing,
		body: jsonBody(credentialRequestSchema, "message-invalid"),
		status: 201,
		answer: credentialResponseSchema,
		errors: ["name-taken", "certificate-invalid"],
		audit: {
			action: "credential.issue",
			tell: ({ body }, answer) => ({
				target: body.name,
				details: { role: body.role, validMs: body.validMs, serial: answer?.credential.serial },
			}),
		},
		handle: ({ credentials }, { body }) => credentials.issue(body),
	}),
	defineRoute({
		...at,
		id: "revokeCredential",
		method: "POST",
		path: "/v1/credentials/{name}/revoke",
		access: "operator",
		summary: "Refuse a credential from now on, also where it is connected.",
		description: "That of the controller's own host cannot be revoked here, so nobody locks everybody out.",
		params: z.strictObject({ name: idSchema }),
		body: noBody,
		status: 200,
		answer: credentialSchema,
		errors: ["not-found"],
		audit: { action: "credential.revoke", tell: ({ params }) => ({ target: params.name }) },
		handle: ({ credentials }, { params }) => credentials.revoke(params.name),
	}),
];

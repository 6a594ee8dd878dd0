import { createRoute, OpenAPIHono } from "@hono/zod-openapi";
import { z } from "zod";
import { errorAnswerSchema } from "../../contracts/controller-api.ts";
import { type ErrorCode, errorCatalogue } from "../../contracts/errors.ts";
import { version } from "../../contracts/version.ts";
import { httpStatusOf } from "../http-status.ts";
import type { AnyRoute } from "./route.ts";

/** Codes that a route may answer besides its own. */
export function errorsOf(route: AnyRoute): ErrorCode[] {
	const codes: ErrorCode[] = [...route.errors, "rate-limited", "message-invalid", "message-too-large", "internal"];
	if (route.access !== "anybody")
		codes.push("not-allowed", "certificate-invalid", "certificate-revoked", "not-enrolled");
	if (Object.keys(route.params.shape).length > 0) codes.push(route.unknown ?? "not-found");
	if (route.audit !== undefined) codes.push("disk-full");
	if (route.body !== undefined) codes.push(route.body.invalid);
	return [...new Set(codes)].sort();
}

const rolesText = {
	anybody: "Needs no certificate.",
	holder: "For every certificate of this controller, an agent's too.",
	viewer: "For the roles viewer and operator.",
	operator: "For the role operator.",
} as const satisfies Record<AnyRoute["access"], string>;

/** OpenAPI 3.1 of the routes: made of what checks their requests, so it cannot say anything else. */
export function makeOpenApiDocument(routes: readonly AnyRoute[]): Record<string, unknown> {
	const api = new OpenAPIHono();
	const registry = api.openAPIRegistry;
	registry.registerComponent("securitySchemes", "clientCertificate", {
		type: "mutualTLS",
		description:
			"A client certificate (TLS 1.3) of the controller's own authority: CN is the name, OU the role; an operator may do what a viewer may. " +
			"stillpoint controller credentials add makes one.",
	});
	for (const route of routes) registry.registerPath(pathOf(route));
	return api.getOpenAPI31Document({
		openapi: "3.1.0",
		info: {
			title: "Stillpoint controller",
			version,
			license: { name: "Apache-2.0", url: "https://www.apache.org/licenses/LICENSE-2.0" },
			description:
				"Every error is `{error: {code, message, remedy, retryable, details?}}`; codes are stable for ever. Unknown " +
				"fields and query parameters are refused in requests; answers may get more of them.",
		},
		servers: [{ url: "https://localhost:7443" }],
	}) as unknown as Record<string, unknown>;
}

function pathOf(route: AnyRoute) {
	const { access, params, query, body } = route;
	const whole = route.isStream ? streamAnswers(route) : jsonAnswers(route);
	return createRoute({
		method: route.method.toLowerCase() as Lowercase<AnyRoute["method"]>,
		path: route.path,
		operationId: route.id,
		tags: [route.tag],
		summary: route.summary,
		description: [route.description, rolesText[access]].filter((one) => one !== undefined).join(" "),
		"x-access": access,
		security: access === "anybody" ? [] : [{ clientCertificate: access === "holder" ? [] : [access] }],
		request: {
			params,
			query,
			...(route.isStream ? { headers: z.object({ "last-event-id": z.string().max(64).optional() }) } : {}),
			...(body === undefined ? {} : { body: { content: { "application/json": { schema: body.schema } } } }),
		},
		responses: { ...whole, ...errorAnswers(errorsOf(route)) },
	});
}

function jsonAnswers({ status, answer }: AnyRoute) {
	const texts = { 200: "As asked.", 201: "Made.", 202: "Accepted; it goes on." } as const;
	return { [status]: { description: texts[status], content: { "application/json": { schema: answer } } } };
}

function streamAnswers({ status, answer }: AnyRoute) {
	return {
		[status]: { description: "The events.", content: { "text/event-stream": { schema: answer } } },
		204: { description: "Nothing will follow: stay away." },
	};
}

function errorAnswers(codes: readonly ErrorCode[]) {
	const statuses = [...new Set(codes.map(httpStatusOf))].sort();
	return Object.fromEntries(
		statuses.map((status) => {
			const own = codes.filter((code) => httpStatusOf(code) === status);
			const description = own.map((code) => `\`${code}\`: ${errorCatalogue[code].summary}`).join(" ");
			const headers = status === 429 ? { headers: z.object({ "Retry-After": z.string() }) } : {};
			const content = { "application/json": { schema: errorAnswerSchema } };
			return [status, { description, "x-codes": own, content, ...headers }];
		}),
	);
}

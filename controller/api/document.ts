import { z } from "zod";
import { defineRoute } from "./route.ts";
import { nothing } from "./route-parts.ts";

export const documentRoutes = [
	defineRoute({
		id: "readDocument",
		method: "GET",
		path: "/v1/openapi.json",
		tag: "API",
		access: "holder",
		summary: "This document.",
		params: nothing,
		query: nothing,
		status: 200,
		answer: z.record(z.string(), z.unknown()),
		errors: [],
		// Few ask for it, so what makes it is loaded when somebody does.
		handle: async ({ routes }) => (await import("./openapi-document.ts")).makeOpenApiDocument(routes),
	}),
];

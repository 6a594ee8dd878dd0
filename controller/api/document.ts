import { z } from "zod";
import { type AnyRoute, defineRoute } from "./route.ts";
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
		handle: ({ readDocument }) => readDocument(),
	}),
];

/** Made once, because that takes long enough to slow others. Few ask for it, so what makes it is loaded when somebody does. */
export function makeDocumentReader(routes: readonly AnyRoute[]): () => Promise<Record<string, unknown>> {
	const made: { document?: Promise<Record<string, unknown>> } = {};
	return () => {
		made.document ??= import("./openapi-document.ts").then(({ makeOpenApiDocument }) => makeOpenApiDocument(routes));
		return made.document;
	};
}

import type { IncomingHttpHeaders } from "node:http";
import type { Context } from "hono";
import { checkShape } from "../../contracts/check-shape.ts";
import { StillpointError } from "../../contracts/errors.ts";
import { parseFields } from "../field-issue.ts";
import { readJsonBody, requireNoBody } from "../request-body.ts";
import type { ApiEnv } from "./make-api.ts";
import type { AnyRoute } from "./route.ts";

export type Checked = {
	readonly params: Record<string, unknown>;
	readonly query: Record<string, unknown>;
	readonly body: unknown;
};

/** What the route's schemas make of the request; the first fault has the code that the route says, and names its place. */
export async function checkRequest(route: AnyRoute, context: Context<ApiEnv>): Promise<Checked> {
	if (route.method !== "GET") refuseBrowserPage(context.env.incoming.headers);
	const params = checkShape(route.params, context.req.param());
	if (!params.success) throw new StillpointError(route.unknown ?? "not-found", `no ${context.req.path.slice(0, 128)}`);
	const query = parseFields(route.query, readQuery(context.req.url), "message-invalid");
	const { incoming } = context.env;
	if (route.body === undefined) {
		requireNoBody(incoming);
		return { params: params.data, query, body: undefined };
	}
	const { schema, invalid, maxBytes } = route.body;
	const body = parseFields(schema, await readJsonBody(incoming, maxBytes), invalid);
	return { params: params.data, query, body };
}

function readQuery(url: string): Record<string, string> {
	const query: Record<string, string> = {};
	for (const [name, value] of new URL(url).searchParams) {
		if (Object.hasOwn(query, name))
			throw new StillpointError("message-invalid", `query parameter "${name.slice(0, 64)}" stands there twice`, {
				details: { field: name.slice(0, 64) },
			});
		Object.defineProperty(query, name, { value, enumerable: true });
	}
	return query;
}

/**
 * A page from anywhere may send some requests that change something, and a browser in which somebody keeps a credential
 * shows it (https://fetch.spec.whatwg.org, "no-cors"). No page is ours.
 */
function refuseBrowserPage({ origin, "sec-fetch-site": site }: IncomingHttpHeaders): void {
	if (origin === undefined && (site === undefined || site === "none")) return;
	throw new StillpointError("not-allowed", "a page in a browser may change nothing here");
}

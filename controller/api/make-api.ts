import type { TLSSocket } from "node:tls";
import type { HttpBindings } from "@hono/node-server";
import { RESPONSE_ALREADY_SENT } from "@hono/node-server/utils/response";
import { type Context, Hono } from "hono";
import type { ContentfulStatusCode } from "hono/utils/http-status";
import { asStillpointError, StillpointError } from "../../contracts/errors.ts";
import type { Actor, Deed } from "../audit.ts";
import { type Caller, identifyCaller, requireAccess } from "../caller.ts";
import { streamHeaders } from "../event-stream.ts";
import { httpStatusOf } from "../http-status.ts";
import type { Log } from "../log.ts";
import type { RateLimits } from "../rate-limits.ts";
import { type Checked, checkRequest } from "./check-request.ts";
import type { AnyRoute, ApiParts } from "./route.ts";

export type ApiEnv = { Bindings: HttpBindings };
export type ApiOptions = ApiParts & {
	readonly routes: readonly AnyRoute[];
	readonly rates: RateLimits;
	readonly log: Log;
};

/**
 * The HTTP API: the routes, and before each of them the same questions in the same order: who asks, how often, may
 * they, is the request well-formed, is it written down. An error is `{error: {code, message, remedy, retryable, details?}}`.
 */
export function makeApi(options: ApiOptions): Hono<ApiEnv> {
	const { routes, log } = options;
	const api = new Hono<ApiEnv>();

	api.onError((thrown, context) => {
		const error = asStillpointError(thrown);
		if (error.code === "internal") log.error("request failed", { path: context.req.path, reason: error.stack });
		if (context.env.outgoing.headersSent) return RESPONSE_ALREADY_SENT;
		const { retryAfterS, allow } = error.details;
		if (typeof retryAfterS === "number") context.header("Retry-After", String(retryAfterS));
		if (error.code === "method-not-allowed" && Array.isArray(allow)) context.header("Allow", allow.join(", "));
		return context.json({ error: error.toJSON() }, httpStatusOf(error.code) as ContentfulStatusCode);
	});
	api.notFound(async (context) => {
		const { caller, address } = await identify(options, context);
		await options.rates.takeRequest(caller, address, false);
		requireAccess(caller, "viewer");
		const allow = routes.filter(({ path }) => matches(path, context.req.path)).map(({ method }) => method);
		if (allow.length === 0) throw new StillpointError("not-found", "no such address");
		const what = `${context.req.method.slice(0, 16)} is not for this address; it takes ${allow.join(", ")}`;
		throw new StillpointError("method-not-allowed", what, { details: { allow } });
	});

	for (const route of routes) {
		const path = route.path.replaceAll(/\{(\w+)\}/g, ":$1");
		api.on(route.method, path, async (context) => {
			const answer = await serve(options, route, context);
			if (!route.isStream) return context.json(answer as object, route.status);
			// A stream that was begun has written its own head.
			return context.req.method === "HEAD" ? context.body(null, 200, streamHeaders) : RESPONSE_ALREADY_SENT;
		});
	}
	return api;
}

async function serve(options: ApiOptions, route: AnyRoute, context: Context<ApiEnv>): Promise<unknown> {
	const { audit, rates } = options;
	const { caller, address } = await identify(options, context);
	const actor = actorOf(caller, address);
	let checked: Checked;
	try {
		await rates.takeRequest(caller, address, route.audit !== undefined);
		if (route.access !== "anybody") requireAccess(caller, route.access);
		checked = await checkRequest(route, context);
		// The body may have taken its time.
		await requireStill(options, route, caller);
		await route.admit?.(options, checked.body);
	} catch (error) {
		if (route.audit !== undefined) {
			const deed = { actor, action: route.audit.action, target: Object.values(context.req.param())[0] };
			await audit.noteRepeatable(deed, asStillpointError(error).code);
		}
		throw error;
	}
	const { incoming, outgoing } = context.env;
	const request = { ...checked, caller, actor, address, signal: context.req.raw.signal, incoming, outgoing };
	const work = () => route.handle(options, request);
	if (route.audit?.claim === true) return await work();
	if (route.audit !== undefined) return await audited(options, route.audit, actor, checked, work);
	if (route.isStream && incoming.method === "HEAD") return undefined;
	const answer = await work();
	// It may have waited for something.
	if (!route.isStream) await requireStill(options, route, caller);
	return answer;
}

/** The caller may have been revoked since the request began. */
async function requireStill({ credentials }: ApiOptions, { access }: AnyRoute, caller: Caller): Promise<void> {
	if (access !== "anybody") requireAccess(await credentials.check(caller), access);
}

/** Written before it is done, and its end before the answer goes out. */
async function audited(
	{ audit, log }: ApiOptions,
	{ action, always, tell }: NonNullable<AnyRoute["audit"]>,
	actor: Actor,
	checked: Checked,
	work: () => Promise<unknown>,
): Promise<unknown> {
	const told = (answer?: unknown) => tell?.(checked, answer) ?? {};
	const deed: Deed = { actor, action, ...told() };
	const entry = await audit.begin(deed).catch((error) => {
		if (always !== true) throw error;
		log.error("audit entry not written, done all the same", { action, reason: String(error) });
		return undefined;
	});
	try {
		const answer = await work();
		await entry?.settle("ok", told(answer));
		return answer;
	} catch (error) {
		await entry?.settle(asStillpointError(error).code);
		throw error;
	}
}

async function identify(
	{ credentials }: ApiOptions,
	{ env }: Context<ApiEnv>,
): Promise<{ caller: Caller; address: string }> {
	const socket = env.incoming.socket as TLSSocket;
	return { caller: await credentials.check(identifyCaller(socket)), address: socket.remoteAddress ?? "unknown" };
}

function actorOf(caller: Caller, address: string): Actor {
	if (caller.role === "nobody") return { name: "nobody", role: caller.role, address };
	if (caller.role === "untrusted") {
		const { role, serial } = caller;
		return { name: "nobody", role, address, ...(serial === undefined ? {} : { serial }) };
	}
	return { name: caller.name, role: caller.role, serial: caller.serial, address };
}

function matches(template: string, path: string): boolean {
	const wanted = template.split("/");
	const given = path.split("/");
	return (
		wanted.length === given.length &&
		wanted.every((part, at) => part === given[at] || (part.startsWith("{") && given[at] !== ""))
	);
}

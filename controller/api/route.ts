import type { IncomingMessage, ServerResponse } from "node:http";
import type { z } from "zod";
import type { ErrorCode } from "../../contracts/errors.ts";
import type { AgentLinks } from "../agent-links.ts";
import type { Actor, Audit } from "../audit.ts";
import type { Access, Caller } from "../caller.ts";
import type { Credentials } from "../credentials.ts";
import type { Enrolment } from "../enrolment.ts";
import type { EventStreams } from "../event-streams.ts";
import type { ControllerEvents } from "../events.ts";
import type { RecoveryPointFolders } from "../recovery-points.ts";
import type { SnapshotJobs } from "../snapshot-jobs.ts";
import type { Store } from "../store.ts";
import type { Verifications } from "../verifications.ts";

/** What the routes work on. */
export type ApiParts = {
	/** OpenAPI of the routes. */
	readDocument(): Promise<Record<string, unknown>>;
	readonly store: Store;
	readonly credentials: Credentials;
	readonly enrolment: Enrolment;
	readonly links: AgentLinks;
	readonly jobs: SnapshotJobs;
	readonly folders: RecoveryPointFolders;
	readonly verifications: Verifications;
	readonly audit: Audit;
	readonly events: ControllerEvents;
	readonly streams: EventStreams;
};

/** A request after its checks. */
export type CheckedRequest<P, Q, B> = {
	readonly params: P;
	readonly query: Q;
	readonly body: B;
	readonly caller: Caller;
	readonly actor: Actor;
	/** Of who asks, as text. */
	readonly address: string;
	/** Aborted when who asks has gone. */
	readonly signal: AbortSignal;
	readonly incoming: IncomingMessage;
	/** For a route whose answer is a stream: it writes the answer itself. */
	readonly outgoing: ServerResponse;
};

type Shape = z.ZodObject;
type Told = { readonly target?: string | undefined; readonly details?: Record<string, unknown> };

/**
 * One route: what checks its requests, what does the work, and what `docs/openapi.json` says of it, in one place.
 * Every route names the least role that may use it; every one that is no GET names the deed for the audit log.
 */
export type Route<P extends Shape, Q extends Shape, B extends z.ZodType, A extends z.ZodType> = {
	readonly id: string;
	/** `/v1/agents/{agentId}` */
	readonly path: string;
	readonly tag: "Agents" | "Jobs" | "Recovery points" | "Enrolment" | "Credentials" | "Audit" | "Events" | "API";
	readonly access: Exclude<Access, "agent">;
	readonly summary: string;
	readonly description?: string;
	readonly params: P;
	/** What a path is that does not match: nothing of that name exists. */
	readonly unknown?: ErrorCode;
	readonly query: Q;
	readonly answer: A;
	readonly status: 200 | 201 | 202;
	/** Codes of this route besides those that every route has. */
	readonly errors: readonly ErrorCode[];
	/** What is refused here was no deed yet: for what anybody can try again and again. */
	admit?(parts: ApiParts, body: z.output<B>): Promise<void>;
	/** The answer is a stream of events of this schema, written by `handle`. */
	readonly isStream?: boolean;
	handle(parts: ApiParts, request: CheckedRequest<z.output<P>, z.output<Q>, z.output<B>>): Promise<z.output<A>>;
} & (
	| { readonly method: "GET"; readonly body?: never; readonly audit?: never }
	| {
			readonly method: "POST" | "PUT" | "DELETE";
			readonly body: { readonly schema: B; readonly invalid: ErrorCode; readonly maxBytes: number };
			readonly audit: {
				readonly action: string;
				/** Anybody may do it at will and nothing follows from it: `handle` notes it itself. */
				readonly claim?: true;
				/** It undoes: done even when the audit log cannot be written, which is then only logged. */
				readonly always?: true;
				/** What the entry says besides, before (without an answer) and after. No secrets. */
				tell?(request: { params: z.output<P>; body: z.output<B> }, answer?: z.output<A>): Told;
			};
	  }
);

export type AnyRoute = Route<Shape, Shape, z.ZodType, z.ZodType>;

/** Keeps the types of its parts together; the table holds routes of all shapes. */
export function defineRoute<P extends Shape, Q extends Shape, B extends z.ZodType, A extends z.ZodType>(
	route: Route<P, Q, B, A>,
): AnyRoute {
	return route as unknown as AnyRoute;
}

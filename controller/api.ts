import type { TLSSocket } from "node:tls";
import type { HttpBindings } from "@hono/node-server";
import { type Context, Hono } from "hono";
import type { ContentfulStatusCode } from "hono/utils/http-status";
import { z } from "zod";
import { type AgentRecord, diskMappingsSchema, tokenRequestSchema } from "../contracts/controller-messages.ts";
import { asStillpointError, StillpointError } from "../contracts/errors.ts";
import { idSchema } from "../contracts/order.ts";
import type { AgentLinks } from "./agent-links.ts";
import { identifyCaller, requireRole } from "./caller.ts";
import { checkMappings } from "./disk-mapping.ts";
import type { Enrolment } from "./enrolment.ts";
import { parseFields } from "./field-issue.ts";
import { httpStatusOf } from "./http-status.ts";
import type { Log } from "./log.ts";
import type { RecoveryPointFolders } from "./recovery-points.ts";
import { readJsonBody } from "./request-body.ts";
import type { SnapshotJobs } from "./snapshot-jobs.ts";
import type { Store, StoredAgent } from "./store.ts";
import type { Verifications } from "./verifications.ts";

export type ApiParts = {
	readonly store: Store;
	readonly enrolment: Enrolment;
	readonly links: AgentLinks;
	readonly jobs: SnapshotJobs;
	readonly folders: RecoveryPointFolders;
	readonly verifications: Verifications;
	readonly log: Log;
};

type Env = { Bindings: HttpBindings };

const maxBodyBytes = 2 * 1024 * 1024;
/** Anybody may send it. */
const maxEnrolBodyBytes = 64 * 1024;
const maxWaitMs = 60_000;
const requestLimitMs = 15_000;
const jobQuerySchema = z.strictObject({
	waitMs: z.coerce.number().int().min(0).max(maxWaitMs).default(0),
	state: z.string().max(32).optional(),
});
const recoveryPointQuerySchema = z.strictObject({ agentId: z.string().max(64).optional() });

/**
 * The HTTP API. Everything but POST /v1/enrol needs the certificate of an operator. Bodies and answers:
 * `contracts/controller-messages.ts`; an error is `{error: {code, message, remedy, retryable, details?}}`.
 */
export function makeApi(parts: ApiParts): Hono<Env> {
	const { store, enrolment, links, jobs, folders, verifications, log } = parts;
	const api = new Hono<Env>();

	api.onError((thrown, context) => {
		const error = asStillpointError(thrown);
		if (error.code === "internal") log.error("request failed", { path: context.req.path, reason: error.stack });
		return context.json({ error: error.toJSON() }, httpStatusOf(error.code) as ContentfulStatusCode);
	});
	api.notFound(() => {
		throw new StillpointError("not-found", "no such address or method");
	});

	api.post("/v1/enrol", async (context) =>
		context.json(await enrolment.enrol(await readJsonBody(context.env.incoming, maxEnrolBodyBytes)), 201),
	);

	api.use("/v1/*", async (context, next) => {
		requireRole(identifyCaller(context.env.incoming.socket as TLSSocket), "operator");
		await next();
	});

	api.post("/v1/tokens", async (context) => {
		const { validMs } = parseFields(tokenRequestSchema, await bodyOf(context), "message-invalid");
		return context.json(await enrolment.makeToken(validMs), 201);
	});

	const showAgent = (agent: StoredAgent): AgentRecord => ({
		...agent,
		disks: [...agent.disks],
		connected: links.isConnected(agent.agentId),
	});
	const readAgent = async (agentId: string): Promise<AgentRecord> => {
		const agent = await store.findAgent(agentId);
		if (agent === undefined) throw new StillpointError("not-found", `no agent ${agentId}`);
		return showAgent(agent);
	};
	api.get("/v1/agents", async (context) => context.json({ agents: (await store.listAgents()).map(showAgent) }));
	api.get("/v1/agents/:id", async (context) => context.json(await readAgent(context.req.param("id"))));
	for (const method of ["status", "inventory"] as const)
		api.get(`/v1/agents/:id/${method}`, async (context) => {
			const { agentId } = await readAgent(context.req.param("id"));
			return context.json({ [method]: await links.request(agentId, method, requestLimitMs) });
		});
	api.put("/v1/agents/:id/disks", async (context) => {
		const { disks } = parseFields(diskMappingsSchema, await bodyOf(context), "order-invalid");
		checkMappings(disks);
		const agentId = context.req.param("id");
		if (!(await store.setDisks(agentId, disks))) throw new StillpointError("not-found", `no agent ${agentId}`);
		return context.json(await readAgent(agentId));
	});
	api.post("/v1/agents/:id/snapshots", async (context) =>
		context.json(await jobs.order(context.req.param("id"), await bodyOf(context)), 202),
	);

	api.get("/v1/jobs", async (context) => context.json({ jobs: await jobs.list() }));
	api.get("/v1/jobs/:id", async (context) => {
		const { waitMs, state } = parseFields(jobQuerySchema, context.req.query(), "message-invalid");
		const id = context.req.param("id");
		if (waitMs === 0) return context.json(await jobs.read(id));
		return context.json(await jobs.readWhenChanged(id, waitMs, state, context.req.raw.signal));
	});
	api.post("/v1/jobs/:id/cancel", async (context) => context.json(await jobs.cancel(context.req.param("id")), 202));

	const requireRecoveryPoint = async (id: string): Promise<string> => {
		const known = idSchema.safeParse(id).success && (await store.findRecoveryPoint(id)) !== undefined;
		if (!known) throw new StillpointError("not-found", `no recovery point ${id.slice(0, 64)}`);
		return id;
	};
	api.get("/v1/recovery-points", async (context) => {
		const { agentId } = parseFields(recoveryPointQuerySchema, context.req.query(), "message-invalid");
		const found = [];
		for (const { id } of await store.listRecoveryPoints(agentId)) {
			// One that somebody removed or damaged must not hide the others.
			const recoveryPoint = await folders.readManifest(id).catch(() => undefined);
			if (recoveryPoint !== undefined) found.push(recoveryPoint);
		}
		return context.json({ recoveryPoints: found });
	});
	api.get("/v1/recovery-points/:id", async (context) =>
		context.json(await folders.readManifest(await requireRecoveryPoint(context.req.param("id")))),
	);
	api.post("/v1/recovery-points/:id/verify", async (context) =>
		context.json(await verifications.verify(await requireRecoveryPoint(context.req.param("id")))),
	);
	api.get("/v1/recovery-points/:id/verification", async (context) =>
		context.json(await verifications.read(await requireRecoveryPoint(context.req.param("id")))),
	);
	return api;
}

function bodyOf(context: Context<Env>): Promise<unknown> {
	return readJsonBody(context.env.incoming, maxBodyBytes);
}

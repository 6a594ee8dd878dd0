import { Agent, request } from "node:https";
import { z } from "zod";
import {
	type AgentRecord,
	agentRecordSchema,
	type ControllerJob,
	controllerJobSchema,
	type snapshotRequestBodySchema,
	tokenResponseSchema,
} from "../contracts/controller-messages.ts";
import { StillpointError } from "../contracts/errors.ts";
import { errorShapeSchema } from "../contracts/hold-protocol.ts";
import { type AgentStatus, agentStatusSchema } from "../contracts/local-calls.ts";
import { type RecoveryPoint, recoveryPointSchema } from "../contracts/recovery-point.ts";
import { type Verification, verificationSchema } from "../contracts/verification.ts";
import type { DiskMapping } from "./store.ts";

export type ControllerAccess = {
	readonly url: string;
	/** PEM texts. */
	readonly ca: string;
	readonly cert: string;
	readonly key: string;
};

type WaitOptions = {
	readonly signal?: AbortSignal;
	/** Called with the job as it was found, and again each time it was found in another state. */
	readonly onChange?: (job: ControllerJob) => void;
};

/** All calls reject with a `StillpointError`: the controller's own, or `controller-unreachable`, `message-invalid`, `deadline-passed`. */
export type ControllerClient = Disposable & {
	createToken(validMs?: number): Promise<z.output<typeof tokenResponseSchema>>;
	listAgents(): Promise<AgentRecord[]>;
	readAgent(agentId: string): Promise<AgentRecord>;
	readAgentStatus(agentId: string): Promise<AgentStatus>;
	readAgentInventory(agentId: string): Promise<Record<string, unknown>>;
	/** Replaces all mappings of the agent. */
	mapDisks(agentId: string, disks: readonly DiskMapping[]): Promise<AgentRecord>;
	/** Answers as soon as the job is known; it runs on. */
	orderSnapshot(agentId: string, body: z.input<typeof snapshotRequestBodySchema>): Promise<ControllerJob>;
	/** Newest first, without reports. */
	listJobs(): Promise<ControllerJob[]>;
	readJob(jobId: string): Promise<ControllerJob>;
	/** Resolves when the job has ended, well or badly. The signal ends the waiting, not the job. */
	waitForJob(jobId: string, options?: WaitOptions): Promise<ControllerJob>;
	cancelJob(jobId: string): Promise<ControllerJob>;
	listRecoveryPoints(agentId?: string): Promise<RecoveryPoint[]>;
	readRecoveryPoint(id: string): Promise<RecoveryPoint>;
	verifyRecoveryPoint(id: string, signal?: AbortSignal): Promise<Verification>;
	/** `not-found` when it was never verified. */
	readVerification(id: string): Promise<Verification>;
};

type Call<T> = {
	readonly method: "GET" | "POST" | "PUT";
	readonly path: string;
	readonly answer: z.ZodType<T>;
	readonly body?: unknown;
	readonly limitMs?: number;
	readonly signal?: AbortSignal | undefined;
};

const callLimitMs = 30_000;
const verifyLimitMs = 3_600_000;
const waitMs = 20_000;

export function connectController({ url, ca, cert, key }: ControllerAccess): ControllerClient {
	const agent = new Agent({ keepAlive: true, ca, cert, key, minVersion: "TLSv1.3" });
	const call = <T>(wanted: Call<T>) => callController(url, agent, wanted);
	const id = encodeURIComponent;

	async function waitForJob(jobId: string, { signal, onChange }: WaitOptions = {}): Promise<ControllerJob> {
		const seen: { state?: string } = {};
		for (;;) {
			const query = seen.state === undefined ? "" : `?waitMs=${waitMs}&state=${seen.state}`;
			const path = `/v1/jobs/${id(jobId)}${query}`;
			const job = await call({
				method: "GET",
				path,
				answer: controllerJobSchema,
				limitMs: callLimitMs + waitMs,
				signal,
			});
			if (job.state !== seen.state) onChange?.(job);
			if (job.endedAt !== undefined) return job;
			seen.state = job.state;
		}
	}

	return {
		waitForJob,
		createToken: (validMs) =>
			call({
				method: "POST",
				path: "/v1/tokens",
				answer: tokenResponseSchema,
				body: validMs === undefined ? {} : { validMs },
			}),
		listAgents: async () =>
			(await call({ method: "GET", path: "/v1/agents", answer: z.object({ agents: z.array(agentRecordSchema) }) }))
				.agents,
		readAgent: (agentId) => call({ method: "GET", path: `/v1/agents/${id(agentId)}`, answer: agentRecordSchema }),
		readAgentStatus: async (agentId) =>
			(
				await call({
					method: "GET",
					path: `/v1/agents/${id(agentId)}/status`,
					answer: z.object({ status: agentStatusSchema }),
				})
			).status,
		readAgentInventory: async (agentId) =>
			(
				await call({
					method: "GET",
					path: `/v1/agents/${id(agentId)}/inventory`,
					answer: z.object({ inventory: z.record(z.string(), z.unknown()) }),
				})
			).inventory,
		mapDisks: (agentId, disks) =>
			call({ method: "PUT", path: `/v1/agents/${id(agentId)}/disks`, answer: agentRecordSchema, body: { disks } }),
		orderSnapshot: (agentId, body) =>
			call({ method: "POST", path: `/v1/agents/${id(agentId)}/snapshots`, answer: controllerJobSchema, body }),
		listJobs: async () =>
			(await call({ method: "GET", path: "/v1/jobs", answer: z.object({ jobs: z.array(controllerJobSchema) }) })).jobs,
		readJob: (jobId) => call({ method: "GET", path: `/v1/jobs/${id(jobId)}`, answer: controllerJobSchema }),
		cancelJob: (jobId) =>
			call({ method: "POST", path: `/v1/jobs/${id(jobId)}/cancel`, answer: controllerJobSchema, body: {} }),
		listRecoveryPoints: async (agentId) =>
			(
				await call({
					method: "GET",
					path: `/v1/recovery-points${agentId === undefined ? "" : `?agentId=${id(agentId)}`}`,
					answer: z.object({ recoveryPoints: z.array(recoveryPointSchema) }),
				})
			).recoveryPoints,
		readRecoveryPoint: (point) =>
			call({ method: "GET", path: `/v1/recovery-points/${id(point)}`, answer: recoveryPointSchema }),
		verifyRecoveryPoint: (point, signal) =>
			call({
				method: "POST",
				path: `/v1/recovery-points/${id(point)}/verify`,
				answer: verificationSchema,
				body: {},
				limitMs: verifyLimitMs,
				signal,
			}),
		readVerification: (point) =>
			call({ method: "GET", path: `/v1/recovery-points/${id(point)}/verification`, answer: verificationSchema }),
		[Symbol.dispose]: () => agent.destroy(),
	};
}

async function callController<T>(url: string, agent: Agent, wanted: Call<T>): Promise<T> {
	const { status, text } = await exchange(url, agent, wanted);
	const value = parseJson(text, `${wanted.method} ${wanted.path}`);
	if (status >= 400) {
		const { error } = parseAnswer(z.object({ error: errorShapeSchema }), value, wanted);
		throw new StillpointError(error.code, error.message, { details: { ...error.details } });
	}
	return parseAnswer(wanted.answer, value, wanted);
}

function exchange(url: string, agent: Agent, wanted: Call<unknown>): Promise<{ status: number; text: string }> {
	const { method, path, body, limitMs = callLimitMs, signal } = wanted;
	const limit = AbortSignal.timeout(limitMs);
	const stop = signal === undefined ? limit : AbortSignal.any([limit, signal]);
	const { promise, resolve, reject } = Promise.withResolvers<{ status: number; text: string }>();
	const fail = (error: Error) => {
		if (signal?.aborted) reject(signal.reason);
		else if (limit.aborted)
			reject(new StillpointError("deadline-passed", `${method} ${path} took more than ${limitMs} ms`));
		else reject(new StillpointError("controller-unreachable", `${url}: ${error.message}`, { cause: error }));
	};
	const headers = body === undefined ? {} : { "content-type": "application/json" };
	const outgoing = request(new URL(path, url), { method, agent, headers, signal: stop }, (incoming) => {
		const chunks: Buffer[] = [];
		incoming.on("data", (chunk: Buffer) => chunks.push(chunk));
		incoming.on("error", fail);
		incoming.on("end", () => resolve({ status: incoming.statusCode ?? 0, text: Buffer.concat(chunks).toString() }));
	});
	outgoing.on("error", fail);
	outgoing.end(body === undefined ? undefined : JSON.stringify(body));
	return promise;
}

function parseJson(text: string, what: string): unknown {
	try {
		return JSON.parse(text);
	} catch (error) {
		throw new StillpointError("message-invalid", `the answer to ${what} is not JSON`, { cause: error });
	}
}

function parseAnswer<T>(schema: z.ZodType<T>, value: unknown, { method, path }: Call<unknown>): T {
	const parsed = schema.safeParse(value);
	if (parsed.success) return parsed.data;
	throw new StillpointError("message-invalid", `the answer to ${method} ${path} does not match its schema`, {
		cause: parsed.error,
	});
}

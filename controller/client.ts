import { Agent } from "node:https";
import { z } from "zod";
import {
	type AuditEntry,
	auditEntrySchema,
	type ControllerEvent,
	type Credential,
	type credentialRequestSchema,
	credentialResponseSchema,
	credentialSchema,
	enrolmentRequestRecordSchema,
} from "../contracts/controller-api.ts";
import {
	type AgentRecord,
	agentRecordSchema,
	type ControllerJob,
	controllerJobSchema,
	type snapshotRequestBodySchema,
	tokenResponseSchema,
} from "../contracts/controller-messages.ts";
import { type AgentStatus, agentStatusSchema } from "../contracts/local-calls.ts";
import { type RecoveryPoint, recoveryPointSchema } from "../contracts/recovery-point.ts";
import { type Verification, verificationSchema } from "../contracts/verification.ts";
import { type Call, callController, callLimitMs } from "./client-call.ts";
import { followEvents } from "./client-events.ts";
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

export type AuditQuery = {
	readonly limit?: number;
	readonly before?: number;
	readonly actor?: string;
	readonly action?: string;
	readonly target?: string;
	readonly outcome?: string;
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
	/** As `waitForJob`, told by the controller instead of asking it again and again. */
	followJob(jobId: string, options?: WaitOptions): Promise<ControllerJob>;
	/** Everything that happens, until the signal or the controller's stop. */
	followEvents(signal?: AbortSignal): AsyncGenerator<ControllerEvent>;
	cancelJob(jobId: string): Promise<ControllerJob>;
	/** Its certificates are refused from now on. */
	revokeAgent(agentId: string, reason: string): Promise<AgentRecord>;
	removeAgent(agentId: string): Promise<void>;
	listEnrolmentRequests(): Promise<z.output<typeof enrolmentRequestRecordSchema>[]>;
	removeEnrolmentRequest(id: string): Promise<void>;
	issueCredential(request: z.input<typeof credentialRequestSchema>): Promise<z.output<typeof credentialResponseSchema>>;
	listCredentials(): Promise<Credential[]>;
	revokeCredential(name: string): Promise<Credential>;
	/** One page, the newest first; `next` is the `before` of the following one. */
	listAudit(query?: AuditQuery): Promise<{ entries: AuditEntry[]; next?: number | undefined }>;
	listRecoveryPoints(agentId?: string): Promise<RecoveryPoint[]>;
	readRecoveryPoint(id: string): Promise<RecoveryPoint>;
	verifyRecoveryPoint(id: string, signal?: AbortSignal): Promise<Verification>;
	/** `not-found` when it was never verified. */
	readVerification(id: string): Promise<Verification>;
	/** OpenAPI of the controller's own release. */
	readDocument(): Promise<Record<string, unknown>>;
};

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

	async function followJob(jobId: string, { signal, onChange }: WaitOptions = {}): Promise<ControllerJob> {
		const seen: { state?: string; error?: string | undefined } = {};
		const path = `/v1/jobs/${id(jobId)}/events`;
		for await (const event of followEvents({ url, agent, path, signal })) {
			const jobs = event.type === "job" ? [event.job] : event.type === "state" ? event.jobs : [];
			for (const job of jobs) {
				// An error of a job that goes on: it is stuck.
				if (job.state !== seen.state || job.error?.message !== seen.error) onChange?.(job);
				seen.state = job.state;
				seen.error = job.error?.message;
			}
		}
		// With its report; and a controller that stopped meanwhile may not have told of the end.
		return await waitForJob(jobId, { ...(signal ? { signal } : {}) });
	}

	return {
		waitForJob,
		followJob,
		followEvents: (signal) => followEvents({ url, agent, path: "/v1/events", signal }),
		revokeAgent: (agentId, reason) =>
			call({ method: "POST", path: `/v1/agents/${id(agentId)}/revoke`, answer: agentRecordSchema, body: { reason } }),
		removeAgent: async (agentId) => {
			await call({ method: "DELETE", path: `/v1/agents/${id(agentId)}`, answer: z.object({ removed: z.string() }) });
		},
		listEnrolmentRequests: async () =>
			(
				await call({
					method: "GET",
					path: "/v1/enrolment-requests",
					answer: z.object({ requests: z.array(enrolmentRequestRecordSchema) }),
				})
			).requests,
		removeEnrolmentRequest: async (requestId) => {
			const path = `/v1/enrolment-requests/${id(requestId)}`;
			await call({ method: "DELETE", path, answer: z.object({ removed: z.string() }) });
		},
		issueCredential: (body) =>
			call({ method: "POST", path: "/v1/credentials", answer: credentialResponseSchema, body }),
		listCredentials: async () =>
			(
				await call({
					method: "GET",
					path: "/v1/credentials",
					answer: z.object({ credentials: z.array(credentialSchema) }),
				})
			).credentials,
		revokeCredential: (name) =>
			call({ method: "POST", path: `/v1/credentials/${id(name)}/revoke`, answer: credentialSchema, body: {} }),
		listAudit: (query = {}) => {
			const words = Object.entries(query).map(([key, value]) => `${key}=${id(String(value))}`);
			return call({
				method: "GET",
				path: `/v1/audit${words.length === 0 ? "" : `?${words.join("&")}`}`,
				answer: z.object({ entries: z.array(auditEntrySchema), next: z.int().positive().optional() }),
			});
		},
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
		readDocument: () => call({ method: "GET", path: "/v1/openapi.json", answer: z.record(z.string(), z.unknown()) }),
		[Symbol.dispose]: () => agent.destroy(),
	};
}

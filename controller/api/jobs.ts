import { z } from "zod";
import { controllerJobSchema, snapshotRequestBodySchema } from "../../contracts/controller-messages.ts";
import { defineRoute } from "./route.ts";
import { agentParams, jobParams, jsonBody, noBody, nothing, wholeNumber } from "./route-parts.ts";

const maxWaitMs = 60_000;

export const jobRoutes = [
	defineRoute({
		id: "orderSnapshot",
		method: "POST",
		path: "/v1/agents/{agentId}/snapshots",
		tag: "Jobs",
		access: "operator",
		summary: "Order a snapshot of the agent's machine.",
		description:
			"Answers as soon as the job is known; it runs on. The same `jobId` with the same body is answered with the job " +
			"that there is, so a request whose answer was lost may be repeated.",
		params: agentParams,
		query: nothing,
		body: jsonBody(snapshotRequestBodySchema, "order-invalid"),
		status: 202,
		answer: controllerJobSchema,
		errors: [
			"not-found",
			"order-invalid",
			"job-running",
			"job-conflict",
			"disk-not-mapped",
			"agent-offline",
			"stopping",
		],
		audit: {
			action: "snapshot.order",
			tell: ({ params: { agentId }, body }, answer) => ({
				target: answer?.jobId ?? body.jobId,
				details: { agentId, level: body.level, acceptLevel: body.acceptLevel, holdLimitMs: body.holdLimitMs },
			}),
		},
		handle: ({ jobs }, { params, body }) => jobs.order(params.agentId, body),
	}),
	defineRoute({
		id: "listJobs",
		method: "GET",
		path: "/v1/jobs",
		tag: "Jobs",
		access: "viewer",
		summary: "The latest 1000 jobs, the newest first, without their reports.",
		params: nothing,
		query: nothing,
		status: 200,
		answer: z.object({ jobs: z.array(controllerJobSchema) }),
		errors: [],
		handle: async ({ jobs }) => ({ jobs: await jobs.list() }),
	}),
	defineRoute({
		id: "readJob",
		method: "GET",
		path: "/v1/jobs/{jobId}",
		tag: "Jobs",
		access: "viewer",
		summary: "One job with its report, now or when it has changed.",
		description:
			"With `waitMs` the answer waits, at most so long, until the job is in another state than `state`; without a " +
			"`state`, until it has ended.",
		params: jobParams,
		unknown: "job-unknown",
		query: z.strictObject({
			waitMs: wholeNumber(0, maxWaitMs).default(0),
			state: z.string().max(32).optional(),
		}),
		status: 200,
		answer: controllerJobSchema,
		errors: ["job-unknown"],
		handle: ({ jobs }, { params, query: { waitMs, state }, signal }) =>
			waitMs === 0 ? jobs.read(params.jobId) : jobs.readWhenChanged(params.jobId, waitMs, state, signal),
	}),
	defineRoute({
		id: "cancelJob",
		method: "POST",
		path: "/v1/jobs/{jobId}/cancel",
		tag: "Jobs",
		access: "operator",
		summary: "Cancel a job: everything is undone.",
		description: "Answers at once, the undoing goes on. No effect on a job that has ended.",
		params: jobParams,
		unknown: "job-unknown",
		query: nothing,
		body: noBody,
		status: 202,
		answer: controllerJobSchema,
		errors: ["job-unknown"],
		audit: { action: "job.cancel", always: true, tell: ({ params }) => ({ target: params.jobId }) },
		handle: ({ jobs }, { params }) => jobs.cancel(params.jobId),
	}),
];

import { type ControllerEvent, controllerEventSchema } from "../../contracts/controller-api.ts";
import { requireAccess } from "../caller.ts";
import type { StreamOptions } from "../event-stream.ts";
import { jobEvent } from "../events.ts";
import { type ApiParts, type CheckedRequest, defineRoute } from "./route.ts";
import { jobParams, nothing } from "./route-parts.ts";

type State = Extract<ControllerEvent, { type: "state" }>;
type Kind = Pick<StreamOptions, "isWanted" | "isLast" | "readState" | "isOver">;

const longestEventId = 64;
const at = {
	method: "GET",
	tag: "Events",
	access: "viewer",
	query: nothing,
	status: 200,
	answer: controllerEventSchema,
	isStream: true,
} as const;
const common =
	"Server-sent events: `event` is the type, `data` the event as JSON. Begins with `state`. With `Last-Event-ID` it goes " +
	"on after that event instead; where that is not possible any more, `reset` and `state` come first. A comment is sent " +
	"as heartbeat. Who reads too slowly is cut off.";

async function openStream(
	{ streams, credentials }: ApiParts,
	{ caller, incoming, outgoing }: CheckedRequest<object, object, unknown>,
	kind: Kind,
): Promise<never> {
	const { name } = requireAccess(caller, "viewer");
	const lastEventId = incoming.headers["last-event-id"];
	await streams.open({
		...kind,
		response: outgoing,
		credential: name,
		credentialExpiresAtMs: (await credentials.findExpiry(name)) ?? 0,
		lastEventId: typeof lastEventId === "string" ? lastEventId.slice(0, longestEventId) : undefined,
	});
	// The answer is on its way; what this resolves with is not looked at.
	return undefined as never;
}

export const eventRoutes = [
	defineRoute({
		...at,
		id: "followJob",
		path: "/v1/jobs/{jobId}/events",
		summary: "The progress of one job; ends with it.",
		description: `${common} Who saw the end of the job gets 204.`,
		params: jobParams,
		unknown: "job-unknown",
		errors: ["job-unknown"],
		async handle(parts, request) {
			const { jobId } = request.params;
			await parts.jobs.read(jobId);
			return await openStream(parts, request, {
				isWanted: (event) => event.type === "job" && event.job.jobId === jobId,
				isLast: (event) => event.type === "job" && event.job.endedAt !== undefined,
				async readState(): Promise<State> {
					const event = jobEvent(await parts.jobs.read(jobId));
					return { type: "state", jobs: event.type === "job" ? [event.job] : [], agents: [] };
				},
				isOver: ({ jobs }) => jobs.every((job) => job.endedAt !== undefined),
			});
		},
	}),
	defineRoute({
		...at,
		id: "followAll",
		path: "/v1/events",
		summary: "All jobs, agents that come and go, requests to be enrolled.",
		description: common,
		params: nothing,
		errors: [],
		handle: (parts, request) =>
			openStream(parts, request, {
				isWanted: () => true,
				isLast: () => false,
				async readState(): Promise<State> {
					const open = parts.jobs.listRunning().map(jobEvent);
					const agents = (await parts.store.listAgents()).map(({ agentId }) => agentId);
					return {
						type: "state",
						jobs: open.flatMap((event) => (event.type === "job" ? [event.job] : [])),
						agents: agents.filter((agentId) => parts.links.isConnected(agentId)),
					};
				},
				isOver: () => false,
			}),
	}),
];

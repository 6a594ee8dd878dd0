/**
 * The calls that the agent answers on its local channel: one table from which the dispatcher, the client, the checks
 * and the docs are made. `whileFrozen`: answered from memory, so it may be called while file systems are frozen.
 */
import { z } from "zod";
import { extensionEventSchema } from "./extension.ts";
import { freezeResultSchema } from "./freezer-protocol.ts";
import { errorShapeSchema, holdCommandSchema, jobPhaseSchema, orderAnswerSchema } from "./hold-protocol.ts";
import { levelSchema } from "./level.ts";
import { idSchema, orderSchema } from "./order.ts";
import { protectionSchema } from "./protection.ts";
import { reportSchema } from "./report.ts";

export const localProtocolVersion = 1;

/**
 * The second socket, for members of the configured `readersGroup`: it answers the calls that need `read` and no others.
 * In a folder of its own, because the run folder is root's alone.
 */
export function readersSocketPath(runFolder: string): string {
	return `${runFolder.replace(/\/+$/, "")}-read/agent-read.sock`;
}

export const jobSummarySchema = z.object({
	jobId: idSchema,
	phase: jobPhaseSchema,
	requested: levelSchema,
	achieved: levelSchema.nullable().optional(),
	held: levelSchema.optional(),
	startedAt: z.iso.datetime(),
	errorCode: z.string().optional(),
});
export type JobSummary = z.infer<typeof jobSummarySchema>;

export const agentStatusSchema = z.object({
	schemaVersion: z.literal(1),
	version: z.string(),
	pid: z.int(),
	hostname: z.string(),
	startedAt: z.iso.datetime(),
	link: z.object({
		enrolled: z.boolean(),
		connected: z.boolean(),
		controller: z.string().optional(),
		agentId: z.string().optional(),
		unsentReports: z.int(),
		/** Of jobs that another controller ordered: kept until the agent is enrolled there again. */
		heldBackReports: z.int().optional(),
		/** Why there is no connection. */
		error: errorShapeSchema.optional(),
		certificateExpiresAt: z.iso.datetime().optional(),
		/** The controller's clock less ours, when they differ much. */
		clockDifferenceMs: z.number().optional(),
	}),
	/** The process that thaws when all others are gone. Absent: none runs. `stopped`: it guards nothing until it goes on. */
	guard: z.object({ pid: z.int(), since: z.iso.datetime(), stopped: z.boolean() }).optional(),
	extensions: z.array(z.object({ name: z.string(), version: z.string(), state: z.string() })),
	/** The job that runs, if any, and what may be frozen by it. */
	job: jobSummarySchema.optional(),
	frozen: z.array(z.object({ mountPoint: z.string(), state: freezeResultSchema })),
	/** Newest first. */
	lastJobs: z.array(jobSummarySchema),
	protection: protectionSchema,
});
export type AgentStatus = z.infer<typeof agentStatusSchema>;

/** One handler, or one instance of a multi-config handler. */
export const extensionInfoSchema = z.object({
	name: z.string(),
	instance: z.string().optional(),
	version: z.string(),
	/** `NotInstalled`, `Installed`, `Enabled`, `Disabled`, `FailedUpgrade`, `Waiting`, `Uninstalled`. */
	state: z.string(),
	sequenceNumber: z.int(),
	/** The handler's own word for the sequence number, or the host's when it left none. */
	status: z.enum(["transitioning", "success", "warning", "error"]).optional(),
	code: z.int().optional(),
	message: z.string().optional(),
	substatus: z.array(z.object({ name: z.string(), status: z.string(), code: z.int(), message: z.string() })).optional(),
	/** What the host has to say about it, by a code of the catalogue. */
	error: z.object({ code: z.string(), message: z.string() }).optional(),
	/** `silent`: transitioning, and not told again for 2 minutes. */
	health: z.enum(["ok", "dead", "silent"]),
	heartbeat: z
		.object({ state: z.enum(["ready", "notready", "unknown", "unresponsive"]), message: z.string() })
		.optional(),
	processes: z.array(z.int()),
	restarts: z.int(),
	lastCommand: z
		.object({
			command: z.string(),
			exitStatus: z.int().optional(),
			timedOut: z.boolean(),
			durationMs: z.number(),
			at: z.iso.datetime(),
		})
		.optional(),
	/** The manifest's resource limits; the host does not enforce them. */
	limitsNotEnforced: z.array(z.string()),
});
export type ExtensionInfo = z.infer<typeof extensionInfoSchema>;

const nothing = z.strictObject({});

export const localCalls = {
	"agent.status": {
		summary: "State of the agent, its link, its extensions and its job.",
		needs: "read",
		whileFrozen: true,
		input: nothing,
		output: agentStatusSchema,
	},
	"agent.inventory": {
		summary: "Hardware, operating system, disks and file systems of the machine.",
		needs: "read",
		whileFrozen: false,
		input: nothing,
		output: z.record(z.string(), z.unknown()),
	},
	"job.order": {
		summary:
			"Orders a hold. The caller is its asker: events come as `job.event` on this connection, and its end is a cancel.",
		needs: "write",
		whileFrozen: true,
		input: z.strictObject({ order: orderSchema }),
		output: orderAnswerSchema,
	},
	"job.command": {
		summary: "What the asker tells its job: freeze, done, described, release. `cancel` may come from any caller.",
		needs: "write",
		whileFrozen: true,
		input: z.strictObject({ command: holdCommandSchema }),
		output: nothing,
	},
	"job.report": {
		summary: "The recorded report of a job, or of the latest one.",
		needs: "read",
		whileFrozen: true,
		input: z.strictObject({ jobId: idSchema.optional() }),
		output: z.object({ report: reportSchema }),
	},
	"job.list": {
		summary: "The latest jobs, newest first.",
		needs: "read",
		whileFrozen: true,
		input: z.strictObject({ limit: z.int().min(1).max(1000).default(20) }),
		output: z.object({ jobs: z.array(jobSummarySchema) }),
	},
	"link.reload": {
		summary: "Reads the enrolment again and connects.",
		needs: "write",
		whileFrozen: false,
		input: nothing,
		output: nothing,
	},
	"extensions.list": {
		summary: "Every extension and instance: version, state, status, processes, last command.",
		needs: "read",
		whileFrozen: true,
		input: nothing,
		output: z.object({ extensions: z.array(extensionInfoSchema) }),
	},
	"extensions.apply": {
		summary: "Reads the drop-in files of extensions again and brings every extension to what they say.",
		needs: "write",
		whileFrozen: false,
		input: nothing,
		output: z.object({ extensions: z.array(extensionInfoSchema) }),
	},
	"extension.attach": {
		summary:
			"An extension process of a running job takes its place on the channel; commands come as `extension.command`.",
		needs: "write",
		whileFrozen: true,
		input: z.strictObject({ token: z.string(), jobId: idSchema }),
		output: nothing,
	},
	"extension.event": {
		summary: "An event of an attached extension.",
		needs: "write",
		whileFrozen: true,
		input: z.strictObject({ token: z.string(), event: extensionEventSchema }),
		output: nothing,
	},
} as const satisfies Record<
	string,
	{ summary: string; needs: "read" | "write"; whileFrozen: boolean; input: z.ZodType; output: z.ZodType }
>;

export type LocalCallName = keyof typeof localCalls;
export type LocalCallInput<N extends LocalCallName> = z.input<(typeof localCalls)[N]["input"]>;
export type LocalCallParams<N extends LocalCallName> = z.output<(typeof localCalls)[N]["input"]>;
export type LocalCallResult<N extends LocalCallName> = z.output<(typeof localCalls)[N]["output"]>;

/** Pushed by the agent without being asked. */
export const localNotifications = {
	"job.event": "an event of a job that this connection ordered (holdEventSchema, or {type: report, report})",
	"extension.command": "a command for an attached extension (extensionCommandSchema)",
} as const;
export type LocalNotificationName = keyof typeof localNotifications;

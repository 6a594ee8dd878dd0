/**
 * What agent and controller send each other over the WebSocket at `/v1/link` (mutual TLS, text frames of JSON), and
 * the bodies of the controller's HTTP API.
 */
import { z } from "zod";
import {
	errorShapeSchema,
	holdCommandSchema,
	holdEventSchema,
	orderAnswerSchema,
	orderMessageSchema,
} from "./hold-protocol.ts";
import { levelSchema } from "./level.ts";
import { diskSelectionSchema, idSchema, stallSchema } from "./order.ts";
import { reportSchema } from "./report.ts";

export const linkProtocolVersion = 1;
/** A frame that is larger ends the connection with `message-too-large`. */
export const maxFrameBytes = 4 * 1024 * 1024;

export const machineSchema = z
	.object({
		hostname: z.string().max(255),
		machineId: z.string().max(128).optional(),
		/** SMBIOS system UUID: a hypervisor gives a clone another one. */
		systemUuid: z.string().max(64).optional(),
		bootId: z.string().max(64).optional(),
		platform: z.string().max(64),
	})
	.meta({ id: "Machine" });

/**
 * Random text that changes with every connection. The controller gives the next one in `welcome`, the agent keeps it on
 * disk, says so with `ticket-kept`, and shows it in its next `hello`. A copy of an agent's state, or one that was put
 * back to an earlier time, shows an older one: it is refused with `identity-changed` and must be enrolled anew. One that is
 * newer than what the controller knows says that the controller was put back. What is in it is the controller's business.
 */
const ticket = z.string().min(16).max(128);

/** Agent to controller. `report` is repeated until `ack` with its sequence number came. */
export const agentMessageSchema = z.discriminatedUnion("type", [
	z.object({
		type: z.literal("hello"),
		protocol: z.int(),
		version: z.string(),
		machine: machineSchema,
		/** The job that runs for this controller, if the link was lost during it. */
		runningJobId: idSchema.optional(),
		ticket: ticket.optional(),
		/** The agent's clock, UTC: both sides warn of a difference that certificates would not survive. */
		time: z.iso.datetime().optional(),
	}),
	z.object({ type: z.literal("ticket-kept"), ticket }),
	/** PKCS #10, PEM, for a new key. Answered by `renewed` or `error`; the old certificate stays good until it expires. */
	z.object({ type: z.literal("renew"), csr: z.string().max(16_384) }),
	...orderAnswerSchema.options,
	...holdEventSchema.options,
	z.object({ type: z.literal("report"), sequence: z.int().positive(), report: reportSchema }),
	z.object({
		type: z.literal("response"),
		requestId: z.string(),
		result: z.unknown().optional(),
		error: errorShapeSchema.optional(),
	}),
]);
export type AgentMessage = z.infer<typeof agentMessageSchema>;

/** Controller to agent. */
export const controllerMessageSchema = z.discriminatedUnion("type", [
	z.strictObject({
		type: z.literal("welcome"),
		protocol: z.int(),
		agentId: z.string(),
		ticket,
		/** The controller's clock, UTC. */
		time: z.iso.datetime(),
	}),
	z.strictObject({ type: z.literal("renewed"), certificate: z.string().max(65_536) }),
	orderMessageSchema,
	...holdCommandSchema.options,
	z.strictObject({ type: z.literal("ack"), sequence: z.int().positive() }),
	z.strictObject({
		type: z.literal("request"),
		requestId: z.string().max(64),
		method: z.enum(["status", "inventory"]),
	}),
	z.strictObject({ type: z.literal("error"), error: errorShapeSchema }),
]);
export type ControllerMessage = z.infer<typeof controllerMessageSchema>;

/** POST /v1/enrol. The token carries the fingerprint of the controller's CA: `stillpoint1.ID.SECRET.SHA256-OF-CA-DER`. */
export const enrolRequestSchema = z.strictObject({
	token: z.string().max(512),
	/** PKCS #10, PEM. The key never leaves the agent. */
	csr: z.string().max(16_384),
	machine: machineSchema,
});
/** POST /v1/enrolment-requests: no token and no certificate; a person decides. */
export const enrolmentRequestSchema = z.strictObject({
	machine: machineSchema,
	/** The id that this machine, or the one it is a copy of, had. */
	formerAgentId: z.string().max(64).optional(),
	reason: z.string().max(512),
});

export const enrolResponseSchema = z.object({ agentId: z.string(), certificate: z.string(), ca: z.string() });

export const tokenRequestSchema = z.strictObject({
	validMs: z.int().min(1_000).max(2_592_000_000).default(86_400_000),
});
export const tokenResponseSchema = z.object({ token: z.string(), expiresAt: z.iso.datetime() });

/** One disk of an agent and where it lies on the controller's host: a raw image file or a block device. */
export const diskMappingSchema = z.strictObject({
	name: z.string().min(1).max(128),
	image: z.string().startsWith("/"),
});
export const diskMappingsSchema = z.strictObject({ disks: z.array(diskMappingSchema).max(256) });

export const agentRecordSchema = z
	.object({
		agentId: z.string(),
		machine: machineSchema,
		connected: z.boolean(),
		enrolledAt: z.iso.datetime(),
		lastSeenAt: z.iso.datetime().optional(),
		disks: z.array(diskMappingSchema),
		revoked: z.object({ at: z.iso.datetime(), reason: z.string() }).optional(),
	})
	.meta({ id: "Agent" });
export type AgentRecord = z.infer<typeof agentRecordSchema>;

/** POST /v1/agents/ID/snapshots */
export const snapshotRequestBodySchema = z.strictObject({
	jobId: idSchema.optional(),
	level: levelSchema.exclude(["none"]).default("application"),
	/** Default: file-system, or `level` if that is lower. */
	acceptLevel: levelSchema.exclude(["none"]).optional(),
	/** Default: every disk that is mapped. */
	disks: diskSelectionSchema.optional(),
	holdLimitMs: z.int().min(100).max(900_000).default(10_000),
	prepareLimitMs: z.int().min(1_000).max(3_600_000).default(120_000),
	stall: stallSchema.optional(),
});

export const controllerJobStates = [
	"ordered",
	"preparing",
	"freezing",
	"taking",
	"thawing",
	"reporting",
	"done",
	"failed",
] as const;

export const controllerJobSchema = z
	.object({
		jobId: idSchema,
		agentId: z.string(),
		state: z.enum(controllerJobStates),
		orderedAt: z.iso.datetime(),
		endedAt: z.iso.datetime().optional(),
		recoveryPointId: z.string().optional(),
		level: levelSchema.nullable().optional(),
		/** The job went on at level crash, with nothing frozen, because the copy does not fit into the hold. */
		lowered: z.object({ from: levelSchema, code: z.literal("copy-too-slow"), message: z.string() }).optional(),
		/** Order sent to `frozen` received, on the controller's monotonic clock. */
		orderToFrozenMs: z.number().optional(),
		report: reportSchema.optional(),
		error: errorShapeSchema.optional(),
	})
	.meta({ id: "Job" });
export type ControllerJob = z.infer<typeof controllerJobSchema>;

/**
 * Bodies of the controller's HTTP API that no agent sends: credentials, audit log, enrolment requests, events. The
 * others stand in `controller-messages.ts`. `docs/openapi.json` is made of both.
 */
import { z } from "zod";
import { controllerJobSchema, machineSchema } from "./controller-messages.ts";
import { errorShapeSchema } from "./hold-protocol.ts";
import { idSchema } from "./order.ts";

export const errorAnswerSchema = z.object({ error: errorShapeSchema }).meta({ id: "ErrorAnswer" });

/** `viewer` reads, `operator` does everything. */
export const apiRoles = ["viewer", "operator"] as const;
export type ApiRole = (typeof apiRoles)[number];

/** POST /v1/credentials. The key stays with who asks; of the request (PKCS #10, PEM) only the public key counts. */
export const credentialRequestSchema = z.strictObject({
	name: idSchema,
	role: z.enum(apiRoles),
	validMs: z.int().min(1_000).max(94_608_000_000).default(31_536_000_000),
	csr: z.string().max(16_384),
});
export const credentialSchema = z
	.object({
		/** Stands in the certificate as CN. */
		name: z.string(),
		/** Stands in the certificate as OU. */
		role: z.enum(apiRoles),
		/** Of the one certificate that is good under this name; hex, lower case. */
		serial: z.string(),
		createdAt: z.iso.datetime(),
		expiresAt: z.iso.datetime(),
		revokedAt: z.iso.datetime().optional(),
	})
	.meta({ id: "Credential" });
export type Credential = z.infer<typeof credentialSchema>;
export const credentialResponseSchema = z.object({
	credential: credentialSchema,
	/** PEM. */
	certificate: z.string(),
	/** PEM: who the controller must prove to be. */
	ca: z.string(),
});

/** POST /v1/agents/ID/revoke */
export const revocationSchema = z.strictObject({ reason: z.string().max(512).default("") });

export const enrolmentRequestRecordSchema = z
	.object({
		id: z.string(),
		at: z.iso.datetime(),
		/** Where it came from, as the controller saw it. */
		address: z.string(),
		machine: machineSchema,
		formerAgentId: z.string().optional(),
		reason: z.string(),
	})
	.meta({ id: "EnrolmentRequest" });

export const auditEntrySchema = z
	.object({
		/** Grows with every entry. */
		sequence: z.int().positive(),
		at: z.iso.datetime(),
		/** Name of the credential, id of the agent, `nobody` (no certificate of ours) or `controller`. */
		actor: z.string(),
		role: z.string(),
		/** Of the certificate; hex. */
		serial: z.string().optional(),
		address: z.string(),
		action: z.string(),
		target: z.string().optional(),
		/** `begun` (its end was not written: the controller died in it), `ok`, or the code of the error. */
		outcome: z.string(),
		details: z.record(z.string(), z.unknown()).optional(),
	})
	.meta({ id: "AuditEntry" });
export type AuditEntry = z.infer<typeof auditEntrySchema>;

export const jobEventSchema = controllerJobSchema.omit({ report: true }).meta({ id: "JobWithoutReport" });

/** What an event stream carries: `event:` is the type, `data:` all of it as JSON. */
export const controllerEventSchema = z
	.discriminatedUnion("type", [
		/** The job as it now stands; `endedAt` stands in its last one. */
		z.object({ type: z.literal("job"), job: jobEventSchema }),
		z.object({ type: z.literal("agent"), agentId: z.string(), connected: z.boolean() }),
		z.object({ type: z.literal("enrolment-request"), request: enrolmentRequestRecordSchema }),
		/** Events were missed: the state that follows is all that is known. */
		z.object({ type: z.literal("reset") }),
		/** At the beginning, and after `reset`: what is so now. Of a stream of one job that job alone. */
		z.object({
			type: z.literal("state"),
			/** Those that have not ended; a stream of one job: that one. */
			jobs: z.array(jobEventSchema),
			/** Ids of those that are connected. */
			agents: z.array(z.string()),
		}),
		/** Nothing follows: the job has ended, or the controller stops. */
		z.object({ type: z.literal("end") }),
	])
	.meta({ id: "Event" });
export type ControllerEvent = z.infer<typeof controllerEventSchema>;

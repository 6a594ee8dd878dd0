/**
 * What each command prints with `--json`: one document on stdout, `schemaVersion` first. docs/command-line.md and
 * docs/command-output.schema.json are made from this table, and a test runs the commands against it. Unknown fields may
 * appear; known ones keep their meaning.
 */
import { z } from "zod";
import { checkSchema } from "./check.ts";
import {
	auditEntrySchema,
	controllerEventSchema,
	credentialSchema,
	enrolmentRequestRecordSchema,
} from "./controller-api.ts";
import { agentRecordSchema, controllerJobSchema, tokenResponseSchema } from "./controller-messages.ts";
import { errorShapeSchema } from "./hold-protocol.ts";
import { agentStatusSchema, extensionInfoSchema, localCalls } from "./local-calls.ts";
import { recoveryPointSchema } from "./recovery-point.ts";
import { reportSchema, scriptReportSchema, scriptSourceSchema } from "./report.ts";
import { verificationSchema } from "./verification.ts";

const version = { schemaVersion: z.literal(1) };
const document = <S extends z.ZodRawShape>(shape: S) => z.object({ ...version, ...shape });

/** Of a command that fails; the exit status is that of the code in the catalogue. */
export const commandErrorSchema = document({ error: errorShapeSchema });

const extensions = document({ extensions: z.array(extensionInfoSchema) });
const credential = document(credentialSchema.shape);
const agentRecord = document(agentRecordSchema.shape);
const controllerJob = document(controllerJobSchema.shape);
const removed = document({ removed: z.string() });
const onFailure = z.enum(["fail", "continue"]);
const badDropIn = z.object({ name: z.string(), onFailure, error: errorShapeSchema });
const scriptStep = z.object({
	command: z.array(z.string()),
	/** Instead of `command` when there is no snapshot. */
	commandWithoutSnapshot: z.array(z.string()).optional(),
	deadlineMs: z.int(),
	/** Attempts after the first. */
	retries: z.int(),
});
/** In the order in which a job starts them. */
const applicationScripts = z.object({
	name: z.string(),
	application: z.string(),
	source: scriptSourceSchema,
	order: z.int(),
	onFailure,
	/** Absent: root. */
	runAs: z.string().optional(),
	session: scriptStep.optional(),
	pre: scriptStep.optional(),
	post: scriptStep.optional(),
	dryRun: z.boolean(),
	/** What a pre leaves running stays until its post has ended. */
	keepsProcesses: z.boolean(),
	/** Group and others must have no access to the script at all. */
	ownerOnly: z.boolean(),
});
const scriptCheck = z.object({
	name: z.string(),
	application: z.string(),
	source: scriptSourceSchema,
	/** One for each step that was looked at; without `error` no fault was found. */
	reports: z.array(scriptReportSchema),
});

const configEntry = z.object({
	key: z.string(),
	/** Absent: not set. */
	value: z.unknown().optional(),
	origin: z.enum(["default", "file", "environment", "flag"]),
	/** `FILE:LINE`, or the name of the variable. */
	where: z.string().optional(),
});
const configFault = z.object({
	key: z.string(),
	what: z.string(),
	nearest: z.string().optional(),
	line: z.int().optional(),
	variable: z.string().optional(),
});
const explanation = z.object({
	kind: z.enum(["error", "because", "protection", "exit-status"]),
	word: z.string(),
	summary: z.string(),
	remedy: z.string().optional(),
	exit: z.int().optional(),
	retryable: z.boolean().optional(),
	codes: z.array(z.string()).optional(),
	documentedAt: z.string(),
});

/** By the words of the command; a group that does something by itself stands under what it does. */
export const commandOutputs = {
	"agent run": document({ ready: z.literal(true), pid: z.int() }),
	"agent enrol": document({ agentId: z.string(), replaced: z.string().optional(), reloaded: z.boolean() }),
	"guard run": document({ ready: z.literal(true), pid: z.int() }),
	check: checkSchema,
	/** The report, also of a job that failed: then `error` stands in it. */
	snapshot: reportSchema,
	status: agentStatusSchema,
	jobs: document(localCalls["job.list"].output.shape),
	report: reportSchema,
	"extensions list": extensions,
	"extensions show": extensions,
	"extensions apply": extensions,
	"extensions new": document({ name: z.string(), folder: z.string(), files: z.array(z.string()) }),
	"extensions test": document({
		name: z.string(),
		version: z.string(),
		passed: z.boolean(),
		checks: z.array(
			z.object({
				name: z.string(),
				result: z.enum(["passed", "failed", "skipped"]),
				what: z.string().optional(),
				remedy: z.string().optional(),
			}),
		),
		folder: z.string().optional(),
	}),
	"scripts list": document({
		applications: z.array(applicationScripts),
		bad: z.array(badDropIn),
		notes: z.array(z.string()),
		freezeDisabledBy: z.string().optional(),
	}),
	"scripts check": document({ checks: z.array(scriptCheck), bad: z.array(badDropIn) }),
	thaw: document({
		fileSystems: z.array(
			z.object({
				jobId: z.string(),
				superblock: z.string(),
				mountPoint: z.string(),
				result: z.string(),
				detail: z.string().optional(),
				ledger: z.string().optional(),
			}),
		),
	}),
	"config show": document({ configFile: z.string(), entries: z.array(configEntry) }),
	"config check": document({
		configFile: z.string(),
		exists: z.boolean(),
		faults: z.array(configFault),
		warnings: z.array(z.string()),
	}),
	diagnose: document({
		file: z.string(),
		sizeBytes: z.int(),
		/** `error`: the part could not be read. */
		entries: z.array(
			z.object({ name: z.string(), what: z.string(), sizeBytes: z.int(), error: z.string().optional() }),
		),
	}),
	explain: document({ explanations: z.array(explanation) }),
	completion: document({ shell: z.enum(["bash", "zsh", "fish"]), script: z.string() }),
	"controller run": document({
		url: z.string(),
		port: z.int(),
		pid: z.int(),
		stateDir: z.string(),
		caFingerprint: z.string(),
	}),
	"controller token": document(tokenResponseSchema.shape),
	"controller agents list": document({ agents: z.array(agentRecordSchema) }),
	"controller agents show": agentRecord,
	"controller agents map": agentRecord,
	"controller agents revoke": agentRecord,
	"controller agents remove": removed,
	"controller agents status": agentStatusSchema,
	"controller agents inventory": z.looseObject(version),
	/** The job, also of one that failed: then `error` stands in it. */
	"controller snapshot": controllerJob,
	"controller cancel": document({ jobId: z.string() }),
	/** One job, when one is named. */
	"controller jobs": z.union([document({ jobs: z.array(controllerJobSchema) }), controllerJob]),
	/** One recovery point, when one is named. */
	"controller recovery-points": z.union([
		document({ recoveryPoints: z.array(recoveryPointSchema) }),
		recoveryPointSchema,
	]),
	"controller verify": verificationSchema,
	/** A document for each event, a line each. */
	"controller events": z.union(controllerEventSchema.options.map((one) => document(one.shape))),
	"controller enrolment-requests list": document({ requests: z.array(enrolmentRequestRecordSchema) }),
	"controller enrolment-requests remove": removed,
	"controller credentials list": document({ credentials: z.array(credentialSchema) }),
	"controller credentials add": document({ ...credentialSchema.shape, folder: z.string() }),
	"controller credentials revoke": credential,
	"controller audit": document({ entries: z.array(auditEntrySchema), next: z.int().optional() }),
	"controller api-document": z.looseObject({ ...version, openapi: z.string() }),
} as const satisfies Record<string, z.ZodType>;
export type CommandName = keyof typeof commandOutputs;

/** Exit statuses that are no error: an outcome that the caller may want to know. All others are those of errors. */
export const outcomeStatuses: Partial<Record<CommandName, Readonly<Record<number, string>>>> = {
	status: { 3: "degraded or unprotected", 9: "something may still be frozen" },
	check: { 3: "degraded or unprotected: `state` tells which", 9: "something is frozen now" },
	snapshot: { 3: "held, but worth less than --level asked" },
	"extensions test": { 3: "a check failed" },
	"scripts check": { 3: "a script has a fault" },
	thaw: { 9: "something could not be thawed" },
	"config check": { 78: "there are faults" },
	"controller snapshot": { 3: "taken, but worth less than --level asked" },
	"controller verify": { 3: "the label says more than the images show" },
};

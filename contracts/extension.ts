/**
 * The contract between the agent (host) and an extension: Azure's handler files
 * (HandlerManifest.json, HandlerEnvironment.json, N.settings, N.status) and one command of our own, `snapshotCommand`.
 *
 * The snapshot command is run once per job: working directory = the installed package, one line of JSON on stdin
 * (`snapshotRequestSchema`), and stdin then stays open: its end means that the host is gone. Events and commands flow
 * over the host's local channel (the socket and the token stand in the request). Exit 0 after a report was sent.
 */
import { z } from "zod";
import { freezeTargetSchema } from "./freezer-protocol.ts";
import { holdCommandSchema, holdEventSchema } from "./hold-protocol.ts";
import { idSchema, orderSchema } from "./order.ts";
import { noOtherScripts, otherScriptsSchema } from "./other-scripts.ts";
import { reportSchema, scriptReportSchema } from "./report.ts";

const command = z.string().min(1).max(4096);
/** Others write booleans as text, too. */
const flag = z.union([
	z.boolean(),
	z
		.string()
		.regex(/^(true|false)$/i)
		.transform((text) => text.toLowerCase() === "true"),
]);
const quota = z.object({
	cpuQuotaPercentage: z.number().nullish(),
	memoryQuotaInMB: z.number().nullish(),
});

/** Element 0 of HandlerManifest.json. Fields that we do not know are kept out of the way, not refused: others write these files. */
export const handlerManifestSchema = z.object({
	name: z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/),
	version: z.union([z.string().regex(/^\d+(\.\d+){1,3}$/), z.number().transform((number) => number.toFixed(1))]),
	handlerManifest: z.object({
		installCommand: command,
		uninstallCommand: command,
		updateCommand: command,
		enableCommand: command,
		disableCommand: command,
		/** Azure's documents also know the word `required`. */
		rebootAfterInstall: z.union([flag, z.literal("required").transform(() => true)]).default(false),
		reportHeartbeat: flag.default(false),
		/** Any other word than the default skips the install at an update. */
		updateMode: z.string().default("UpdateWithInstall"),
		/** The update goes on when the old version's disable or uninstall fails. */
		continueOnUpdateFailure: flag.default(false),
		supportsMultipleExtensions: flag.default(false),
		/** Ours: run once per snapshot order. */
		snapshotCommand: command.optional(),
		/**
		 * Ours: run when a snapshot command ended without its report, and before the first job of a start. It undoes
		 * what was left: one line of JSON on stdin (`recoverRequestSchema`), one on stdout (`recoverAnswerSchema`).
		 */
		recoverCommand: command.optional(),
	}),
	/** Read, and told as not enforced. */
	resourceLimits: quota.extend({ services: z.array(quota.extend({ name: z.string() })).nullish() }).nullish(),
});
export type HandlerManifest = z.output<typeof handlerManifestSchema>;
export const handlerManifestFileSchema = z.array(handlerManifestSchema).min(1);

export const handlerEnvironmentFileSchema = z
	.array(
		z.object({
			name: z.string().optional(),
			version: z.union([z.number(), z.string()]),
			handlerEnvironment: z.object({
				logFolder: z.string(),
				configFolder: z.string(),
				statusFolder: z.string(),
				heartbeatFile: z.string(),
				/** Older hosts give none, or under its first name. */
				eventsFolder: z.string().optional(),
				eventsFolder_preview: z.string().optional(),
			}),
		}),
	)
	.min(1);

/** Which file systems local configuration takes out, or limits the job to. All must match within one filter. */
export const fileSystemFilterSchema = z
	.strictObject({
		/** Glob over the mount point, as path.posix.matchesGlob reads it. */
		mountPoint: z.string().min(1).max(4096).optional(),
		fsType: z.string().min(1).optional(),
		/** Kernel name or path of the device: `loop3` or `/dev/loop3`. */
		device: z.string().min(1).optional(),
	})
	.refine((filter) => Object.keys(filter).length > 0, { message: "at least one of mountPoint, fsType, device" });
export type FileSystemFilter = z.infer<typeof fileSystemFilterSchema>;

export const fileSystemFiltersSchema = z.strictObject({
	/** When not empty, only what matches is frozen. */
	include: z.array(fileSystemFilterSchema),
	exclude: z.array(fileSystemFilterSchema),
});
export type FileSystemFilters = z.infer<typeof fileSystemFiltersSchema>;

/** What the host passes on stdin, one line. Paths are absolute. */
export const snapshotRequestSchema = z.strictObject({
	schemaVersion: z.literal(1),
	order: orderSchema,
	/** From the order, lowered by the local cap. */
	holdLimitMs: z.int().positive(),
	/** Whether the kernel's `rcu_expedited` may be on for the instant of the freeze. Absent: it may. */
	expedited: z.boolean().optional(),
	/** The order's stall budget, lowered by the local cap. Absent: none. */
	stallBudgetMs: z.int().positive().optional(),
	fileSystems: fileSystemFiltersSchema,
	/** Kernel names of temp or resource disks. */
	tempDisks: z.array(z.string()),
	/** Folder of drop-in files, see `contracts/script-drop-in.ts`. */
	scriptsFolder: z.string(),
	/** Scripts of other agents that are honoured; see `contracts/other-scripts.ts`. */
	otherScripts: otherScriptsSchema.default(noOtherScripts),
	/** On tmpfs: ledger, window log. */
	runFolder: z.string(),
	/** Folders whose file system is frozen last and thawed first, inside what the stack allows. */
	hostFolders: z.array(z.string()),
	statusFile: z.string(),
	extension: z.strictObject({ name: z.string(), version: z.string() }),
	channel: z.strictObject({ socketPath: z.string(), token: z.string() }),
});
export type SnapshotRequest = z.infer<typeof snapshotRequestSchema>;

export const recoverRequestSchema = z.strictObject({ runFolder: z.string().startsWith("/") });
export const recoverAnswerSchema = z.object({
	jobs: z.array(z.object({ jobId: idSchema, scripts: z.array(scriptReportSchema) })),
	/** What could not be read, and was left where it is. */
	faults: z.array(z.string()),
});
export type RecoverAnswer = z.output<typeof recoverAnswerSchema>;

/** Extension to host. Besides the asker's events: what makes the host the third holder, and the result. */
export const extensionEventSchema = z.discriminatedUnion("type", [
	...holdEventSchema.options,
	/** Before `prepared`: the host opens the directories, so that it can thaw them itself. */
	z.object({ type: z.literal("targets"), jobId: idSchema, targets: z.array(freezeTargetSchema) }),
	/**
	 * Before the first freeze call: the host stops every disk write of its own and answers `quiet`.
	 * From its arrival the host holds a deadline of `holdLimitMs` plus its own margin.
	 */
	z.object({ type: z.literal("freezing"), jobId: idSchema, holdLimitMs: z.number(), freezerPid: z.int().min(2) }),
	z.object({ type: z.literal("report"), jobId: idSchema, report: reportSchema }),
	/** From one that said so once, every few seconds: a host ends it after `silenceLimitMs` without a word. */
	z.object({ type: z.literal("alive"), jobId: idSchema }),
]);
export const aliveEveryMs = 2_000;
export const silenceLimitMs = 15_000;
export type ExtensionEvent = z.infer<typeof extensionEventSchema>;

/** Host to extension. */
export const extensionCommandSchema = z.discriminatedUnion("type", [
	...holdCommandSchema.options,
	/** The host writes to no disk until `thawed`. */
	z.strictObject({ type: z.literal("quiet"), jobId: idSchema }),
]);
export type ExtensionCommand = z.infer<typeof extensionCommandSchema>;

/** Element 0 of a status file, Azure's shape; the whole report lies in substatus[0].formattedMessage.message. */
export const handlerStatusSchema = z.object({
	version: z.literal("1.0"),
	timestampUTC: z.iso.datetime(),
	status: z.object({
		name: z.string(),
		operation: z.string(),
		status: z.enum(["transitioning", "success", "warning", "error"]),
		code: z.int(),
		formattedMessage: z.object({ lang: z.string(), message: z.string() }),
		substatus: z.array(
			z.object({
				name: z.string(),
				status: z.enum(["transitioning", "success", "warning", "error"]),
				code: z.int(),
				formattedMessage: z.object({ lang: z.string(), message: z.string() }),
			}),
		),
	}),
});
export const handlerStatusFileSchema = z.array(handlerStatusSchema).length(1);

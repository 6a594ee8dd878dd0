/** The agent's configuration. The docs page and the JSON Schema for editors are made from this. Times are ms. */
import { z } from "zod";
import { fileSystemFilterSchema } from "../contracts/extension.ts";
import { levelSchema } from "../contracts/level.ts";
import { otherScriptsSchema } from "../contracts/other-scripts.ts";

const absolutePath = z.string().startsWith("/", "must be an absolute path").max(1024);

export const configSchema = z.strictObject({
	version: z.literal(1).describe("Version of this file's format. Required in a file."),
	fileSystems: z
		.strictObject({
			include: z
				.array(fileSystemFilterSchema)
				.max(256)
				.default([])
				.describe("When not empty, only file systems that match one of these filters are frozen."),
			exclude: z
				.array(fileSystemFilterSchema)
				.max(256)
				.default([])
				.describe("File systems that are never frozen. Writable ones lower their disks to level crash."),
		})
		.prefault({}),
	holdLimitCapMs: z
		.int()
		.min(100)
		.max(900_000)
		.default(60_000)
		.describe("No order may hold longer than this, from before the first freeze until after the last thaw."),
	freeze: z
		.strictObject({
			expedited: z
				.boolean()
				.default(true)
				.describe(
					"Switches the kernel's rcu_expedited on for the instant of the freeze: writers are stopped for a " +
						"fraction of the time, all processors are interrupted a few times. Put back whatever happens.",
				),
			stallBudgetMs: z
				.int()
				.min(1)
				.max(900_000)
				.nullable()
				.default(null)
				.describe(
					"No order may stop writers for longer than this, as predicted before the freeze; null: as long as it says.",
				),
		})
		.prefault({}),
	tempDisks: z
		.array(z.string().min(1).max(128))
		.max(256)
		.default([])
		.describe("Kernel names of temp or resource disks: left out of every job, and named in its report."),
	scriptsFolder: absolutePath
		.default("/etc/stillpoint/scripts.d")
		.describe("Folder with one drop-in file for each application whose scripts run before and after a snapshot."),
	otherScripts: otherScriptsSchema.prefault({}),
	extensions: z
		.strictObject({
			installFrom: z
				.array(absolutePath)
				.max(64)
				.default([])
				.describe("Folders of extension packages, or folders of such folders; installed at each start when new."),
			settingsFolder: absolutePath
				.default("/etc/stillpoint/extensions.d")
				.describe("Folder with one drop-in file for each extension: whether it is enabled, and its settings."),
			snapshot: z
				.string()
				.min(1)
				.max(128)
				.optional()
				.describe("Name of the extension that takes snapshots. Default: the first enabled one that can."),
		})
		.prefault({}),
	controller: z
		.strictObject({
			url: z
				.url({ protocol: /^https$/ })
				.optional()
				.describe("Address of the controller. Default: the one the agent was enrolled with."),
			proxy: z
				.url({ protocol: /^http$/, error: "must be http://HOST:PORT, with USER:PASSWORD@ before it if need be" })
				.max(1024)
				.optional()
				.describe(
					"HTTP proxy on the way to the controller: http://USER:PASSWORD@HOST:PORT. It must allow CONNECT. " +
						"Variables such as HTTPS_PROXY are not read.",
				),
		})
		.prefault({}),
	protection: z
		.strictObject({
			level: levelSchema
				.exclude(["none"])
				.default("file-system")
				.describe("The least level that counts as a good recovery point when the agent says whether it is protected."),
			maxAgeMs: z
				.int()
				.min(60_000)
				.max(31_536_000_000)
				.nullable()
				.default(93_600_000)
				.describe("A good recovery point protects for so long (26 h: a daily one may be late); null: for ever."),
		})
		.prefault({}),
	readersGroup: z
		.string()
		.regex(/^[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}$/, "must be the name or number of a group")
		.optional()
		.describe(
			"Group whose members may read status, jobs and reports without root, on a socket of its own. Default: nobody.",
		),
	stopLimitMs: z
		.int()
		.min(1_000)
		.max(600_000)
		.default(20_000)
		.describe("When the service stops, a running job may take this long to undo its work before it is ended."),
	log: z
		.strictObject({
			level: z
				.enum(["error", "warn", "info", "debug"])
				.default("info")
				.describe("The least grave lines that are written."),
			maxBytes: z
				.int()
				.min(65_536)
				.max(1_073_741_824)
				.default(10_485_760)
				.describe("Size at which the log file is put away; three older ones are kept."),
		})
		.prefault({}),
});
export type AgentConfig = z.output<typeof configSchema>;

/** A leaf of the schema: where it stands in the file, and its variable in the environment. */
export type ConfigKey = { readonly path: readonly string[]; readonly variable: string; readonly isText: boolean };

/** Every key that a value can be given to, in the order of the schema. */
export function listConfigKeys(schema: z.ZodObject = configSchema, above: readonly string[] = []): ConfigKey[] {
	return Object.entries(schema.shape).flatMap(([name, value]) => {
		const path = [...above, name];
		const inner = unwrap(value as z.ZodType);
		if (inner instanceof z.ZodObject) return listConfigKeys(inner, path);
		const isText = inner instanceof z.ZodString || inner instanceof z.ZodEnum || inner instanceof z.ZodURL;
		return [{ path, variable: variableOf(path), isText }];
	});
}

function unwrap(schema: z.ZodType): z.ZodType {
	if (schema instanceof z.ZodDefault || schema instanceof z.ZodPrefault || schema instanceof z.ZodOptional)
		return unwrap(schema.def.innerType as z.ZodType);
	return schema;
}

/** `fileSystems.include` is `STILLPOINT_FILE_SYSTEMS_INCLUDE`. */
function variableOf(path: readonly string[]): string {
	return `STILLPOINT_${path.map((part) => part.replace(/([A-Z])/g, "_$1").toUpperCase()).join("_")}`;
}

/** What the machine's admin may set for snapshots that another host agent asks for; this machine's caps. */
import { z } from "zod";
import { fileSystemFilterSchema } from "../../../contracts/extension.ts";
import { otherScriptsSchema } from "../../../contracts/other-scripts.ts";
import { findSmallJson } from "../../../platform/read-small-json.ts";
import { snapshotSources } from "./azure-task.ts";

export const defaultConfigPath = "/etc/stillpoint/azure-guest.json";
const maxConfigBytes = 1024 * 1024;

const absolutePath = z.string().startsWith("/", "must be an absolute path").max(1024);
const filters = z.array(fileSystemFilterSchema).max(256).default([]);

export const guestConfigSchema = z.strictObject({
	version: z.literal(1).describe("Version of this file's format. Required in a file."),
	runFolder: absolutePath
		.default("/run/stillpoint-azure")
		.describe("On tmpfs: the ledger of what is frozen, the log of the window, the lock of the job."),
	otherRunFolders: z
		.array(absolutePath)
		.default(["/run/stillpoint"])
		.describe("Run folders of agents beside: a freeze of theirs is waited for."),
	diskLinksFolder: absolutePath
		.default("/dev/disk/azure")
		.describe("Where the links from LUNs to disks lie. Without them the addresses in /sys are used."),
	takeSnapshotFrom: z
		.enum(snapshotSources)
		.optional()
		.describe("Overrides what the task says; a task that needs the host keeps to it."),
	holdLimitMs: z
		.int()
		.min(100)
		.max(60_000)
		.default(20_000)
		.describe("From before the first freeze until after the last thaw. A snapshot that takes longer fails."),
	hostRequestLimitMs: z.int().min(100).max(120_000).default(40_000).describe("For the host's answer to presnapshot."),
	startWithinMs: z
		.int()
		.min(0)
		.max(3_600_000)
		.default(300_000)
		.describe("How long a task waits for another snapshot on this machine."),
	prepareLimitMs: z
		.int()
		.min(1_000)
		.max(3_600_000)
		// Longer than a script of Azure's framework may take, which is half an hour.
		.default(2_400_000)
		.describe("From the start of the job to its freeze: plan, scripts, sync, the provider's preparation."),
	scriptsFolder: absolutePath.default("/etc/stillpoint/scripts.d").describe("Drop-in files of applications."),
	otherScripts: otherScriptsSchema.prefault({}).describe("Scripts of other agents that are honoured."),
	fileSystems: z
		.strictObject({ include: filters, exclude: filters })
		.prefault({})
		.describe("What is frozen or left out."),
});
export type GuestConfig = z.output<typeof guestConfigSchema>;

/** Without a file the defaults. @throws `config-invalid` naming file and key */
export async function loadGuestConfig(path: string): Promise<GuestConfig> {
	const found = await findSmallJson(path, {
		code: "config-invalid",
		limitBytes: maxConfigBytes,
		ownOnly: true,
		schema: guestConfigSchema,
	});
	return found ?? guestConfigSchema.parse({ version: 1 });
}

/** Where the scripts lie that people already have for other agents, and that are honoured beside our own drop-ins. */
import { z } from "zod";

const absolutePath = z.string().startsWith("/", "must be an absolute path").max(1024);
const folders = z.array(absolutePath).max(16);

export const otherScriptsSchema = z.strictObject({
	azureFolder: absolutePath
		.nullable()
		.default("/etc/azure")
		.describe(
			"Where VMSnapshotPluginHost.conf, VMSnapshotScriptPluginConfig.json and workload.conf of Azure's backup extension " +
				"are looked for; null: nowhere.",
		),
	qemuHookFolders: folders
		.default(["/etc/qemu/fsfreeze-hook.d", "/etc/qemu-ga/fsfreeze-hook.d"])
		.describe("Folders of hooks of the QEMU guest agent, called with freeze and thaw."),
	vmwareHookFolders: folders
		.default(["/etc/vmware-tools/backupScripts.d"])
		.describe("Folders of VMware's backup scripts, called with freeze, and with thaw or freezeFail."),
	hookDeadlineMs: z.int().min(100).max(1_800_000).default(60_000).describe("Each call of a hook is ended after this."),
});
export type OtherScripts = z.output<typeof otherScriptsSchema>;

export const noOtherScripts: OtherScripts = {
	azureFolder: null,
	qemuHookFolders: [],
	vmwareHookFolders: [],
	hookDeadlineMs: 60_000,
};

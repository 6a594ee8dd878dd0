/**
 * What a handler shall be on this machine: one root-owned drop-in per handler, `/etc/stillpoint/extensions.d/NAME.json`.
 * No extension and no setting of one ever comes over the network. Without a drop-in an installed extension is enabled
 * with empty settings.
 */
import { z } from "zod";

export const handlerNameSchema = z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/);
/** It becomes part of file names, before a dot. */
const instanceName = z.string().regex(/^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$/);
const settings = z.record(z.string(), z.unknown());
const dependsOn = z
	.array(z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,127}(\/[A-Za-z0-9][A-Za-z0-9_-]{0,63})?$/))
	.max(64)
	.default([]);
const sequenceNumber = z.int().min(0).max(2_147_483_647).default(0);
const jobLimitMs = z.int().min(1_000).max(86_400_000).default(5_400_000);

const instanceSchema = z.strictObject({
	state: z.enum(["enabled", "disabled"]).default("enabled"),
	sequenceNumber,
	publicSettings: settings.default({}),
	protectedSettings: settings.optional(),
	/** Handler names, or NAME/INSTANCE. */
	dependsOn,
	jobLimitMs,
});

export const handlerGoalStateSchema = z
	.strictObject({
		version: z.literal(1),
		/** As in the manifest, and as the file is called. */
		name: handlerNameSchema,
		state: z.enum(["enabled", "disabled", "uninstalled"]).default("enabled"),
		/** Files are named for it; a handler does the work of a number once. */
		sequenceNumber,
		publicSettings: settings.optional(),
		/** Handed over encrypted, to this handler only. The file must then have the mode 0600. */
		protectedSettings: settings.optional(),
		/** Multi-config: settings that have a name and a life of their own. Then none stand beside them. */
		instances: z
			.record(instanceName, instanceSchema)
			.refine((all) => Object.keys(all).length > 0 && Object.keys(all).length <= 64, { message: "1 to 64 instances" })
			.optional(),
		dependsOn,
		/** A job that `enable` accepted and left `transitioning` is closed with an error after this. */
		jobLimitMs,
	})
	.refine(
		({ instances, publicSettings, protectedSettings }) =>
			instances === undefined || (publicSettings === undefined && protectedSettings === undefined),
		{ path: ["instances"], message: "with instances the settings stand in the instances" },
	);
export type HandlerGoalState = z.infer<typeof handlerGoalStateSchema>;

import { z } from "zod";
import { idSchema } from "./order.ts";
import { reportSchema } from "./report.ts";

/** What a provider read from an image, without mounting it. */
export const imageIdentitySchema = z.object({
	/** File systems found directly on the image or in its partitions. */
	fileSystems: z.array(z.object({ fsType: z.string(), uuid: z.string(), offsetBytes: z.number() })),
});
export type ImageIdentity = z.infer<typeof imageIdentitySchema>;

export const recoveryPointDiskSchema = z.object({
	/** The guest's name of the disk. */
	name: z.string(),
	/** File name of the raw image, inside the recovery point's folder. */
	image: z.string(),
	sizeBytes: z.number(),
	method: z.enum(["reflink", "copy"]),
	copyMs: z.number(),
	identity: imageIdentitySchema,
});
export type RecoveryPointDisk = z.infer<typeof recoveryPointDiskSchema>;

/** `manifest.json`, written last: a folder without it is no recovery point. */
export const recoveryPointSchema = z
	.object({
		schemaVersion: z.literal(1),
		id: idSchema,
		agentId: z.string(),
		jobId: idSchema,
		createdAt: z.iso.datetime(),
		provider: z.literal("image-files"),
		/** The agent's verdict. Never raised by the controller. */
		level: z.enum(["crash", "file-system", "application"]),
		disks: z.array(recoveryPointDiskSchema).min(1),
		report: reportSchema,
		/** What the agent told of its machine. */
		machine: z.object({ hostname: z.string(), machineId: z.string().optional() }),
	})
	.meta({ id: "RecoveryPoint" });
export type RecoveryPoint = z.infer<typeof recoveryPointSchema>;

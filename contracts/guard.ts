/** The guard: a process of its own, which thaws when all others of ours are gone. */
import { z } from "zod";

/** `<run-dir>/guard.json`, on tmpfs. */
export const guardRecordSchema = z.strictObject({
	schemaVersion: z.literal(1),
	pid: z.int().positive(),
	/** From /proc/PID/stat: together with the pid it names one process for ever. */
	startTime: z.string(),
	since: z.iso.datetime(),
});
export type GuardRecord = z.infer<typeof guardRecordSchema>;

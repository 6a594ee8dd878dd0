/** A note on tmpfs that the asker told of a snapshot, for the next life of an agent that is killed before the report. */
import { existsSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";

export function noteSnapshotTold(runDir: string, jobId: string): void {
	mkdirSync(join(runDir, "snapshots"), { recursive: true, mode: 0o700 });
	writeFileSync(join(runDir, "snapshots", jobId), "");
}

export function findSnapshotTold(runDir: string, jobId: string): boolean {
	return existsSync(join(runDir, "snapshots", jobId));
}

export function forgetSnapshotTold(runDir: string, jobId: string): void {
	rmSync(join(runDir, "snapshots", jobId), { force: true });
}

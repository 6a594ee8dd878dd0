import { asStillpointError, type ErrorCode, StillpointError } from "../../contracts/errors.ts";
import type { ExtensionEvent } from "../../contracts/extension.ts";
import type { SnapshotHost } from "../kit/run-snapshot-command.ts";
import type { JobPhaseWalk } from "./job-phase-walk.ts";
import type { StartedJob } from "./started-job.ts";

/** What each step of a job works with. */
export type Job = StartedJob & {
	readonly host: SnapshotHost;
	readonly phases: JobPhaseWalk;
	readonly undo: AsyncDisposableStack;
};

/** Failures of the freeze after which a job that accepts level crash goes on without one. */
const degradable: readonly ErrorCode[] = [
	"nothing-to-freeze",
	"freeze-failed",
	"freeze-late",
	"foreign-freeze",
	"freezer-died",
	"exclusive-operation",
	"write-probe-stuck",
];

/** What fails here fails the job, unless the order accepts level crash and the failure leaves that possible. */
export async function unlessDegraded<T>({ host, record, phases }: Job, work: () => Promise<T>): Promise<T | undefined> {
	try {
		return await work();
	} catch (thrown) {
		const error = asStillpointError(thrown);
		if (host.ending.aborted || host.request.order.acceptLevel !== "crash") throw error;
		if (!degradable.includes(error.code)) throw error;
		// Whoever asked was told that the job is being undone.
		if (phases.phase === "stuck" || phases.phase === "undoing") throw error;
		record.degraded = error;
		return undefined;
	}
}

/** Told on the way; a host that is gone comes by its own door. */
export function tell(host: SnapshotHost, event: ExtensionEvent): void {
	host.send(event).catch(() => undefined);
}

/** The host writes to its disks again from here. */
export function tellThawed({ host, record }: Job): void {
	if (record.thawedTold) return;
	record.thawedTold = true;
	tell(host, { type: "thawed", jobId: host.request.order.jobId });
}

export function tellStuck({ host, phases }: Job, mountPoints: string[]): void {
	const { jobId } = host.request.order;
	const error = new StillpointError("stuck", `may still be frozen: ${mountPoints.join(", ")}`, {
		details: { command: "stillpoint thaw" },
	});
	if (phases.phase !== "stuck") {
		phases.undo();
		if (phases.phase === "undoing" || phases.phase === "thawing") phases.advance("stuck");
	}
	tell(host, { type: "stuck", jobId, fileSystems: mountPoints, error: error.toJSON() });
}

import type { Readable } from "node:stream";
import { connectLocalChannel } from "../../platform/local-channel.ts";
import type { HostLine } from "../kit/host-line.ts";
import { runSnapshotCommand } from "../kit/run-snapshot-command.ts";
import { systemClock } from "./clock.ts";
import { runJob } from "./run-job.ts";
import { type StartedJob, startJob } from "./started-job.ts";

/** The parts of the extension put together for one job. Returns the exit status. */
export async function runVmSnapshot(given: {
	line: Promise<HostLine>;
	stdin: Readable;
	stderr: { write(text: string): unknown };
	signal: AbortSignal;
}): Promise<number> {
	await using started = new AsyncDisposableStack();
	let job: StartedJob | undefined;
	return await runSnapshotCommand({
		...given,
		connect: connectLocalChannel,
		onRequest(request) {
			job = started.use(startJob(request, systemClock()));
		},
		work: async (host) => {
			if (job !== undefined) await runJob(host, job);
		},
	});
}

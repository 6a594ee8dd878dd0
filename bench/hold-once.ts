import { connectLocalAgent } from "../command-line/local-agent.ts";
import type { HoldEvent, JobPhase } from "../contracts/hold-protocol.ts";
import { orderSchema } from "../contracts/order.ts";
import type { Report } from "../contracts/report.ts";

/** CLOCK_MONOTONIC, comparable with the times of the freezer's events. */
export function monotonicMs(): number {
	return Number(process.hrtime.bigint()) / 1e6;
}

export type HeldOnce = {
	readonly jobId: string;
	readonly orderedAtMs: number;
	readonly frozenAtMs: number;
	readonly reportedAtMs: number;
	/** When each phase was told to the asker. */
	readonly phases: readonly { readonly phase: JobPhase; readonly atMs: number }[];
	readonly report: Report & { readonly window: NonNullable<Report["window"]> };
};

export type HoldOnceOptions = {
	readonly runFolder: string;
	/** Kernel names. */
	readonly disks: readonly string[];
	/** Awaited between `prepared` and the word to freeze. */
	readonly mayFreeze?: () => Promise<void>;
	readonly signal: AbortSignal;
};

const limitMs = 60_000;
const callLimitMs = 20_000;

/** One whole job by the local call, with a hold of 0 ms: freeze as soon as it is prepared, release when it is frozen. */
export async function holdOnce({ runFolder, disks, mayFreeze, signal }: HoldOnceOptions): Promise<HeldOnce> {
	const order = orderSchema.parse({
		jobId: `bench-${process.hrtime.bigint()}`,
		level: "file-system",
		acceptLevel: "file-system",
		disks: { include: disks },
		snapshot: "unknown",
	});
	const { jobId } = order;
	const reported = Promise.withResolvers<Report>();
	const phases: { phase: JobPhase; atMs: number }[] = [];
	let frozenAtMs = Number.NaN;
	// Rejected also while the order is still on its way.
	reported.promise.catch(() => undefined);
	const limit = AbortSignal.any([signal, AbortSignal.timeout(limitMs)]);
	limit.addEventListener("abort", () => reported.reject(limit.reason), { once: true });
	await using client = await connectLocalAgent(runFolder, limit, {
		onNotification: (_name, params) => {
			const event = params as HoldEvent | { type: "report"; report: Report };
			if (event.type === "phase") phases.push({ phase: event.phase, atMs: monotonicMs() });
			if (event.type === "prepared") tell("freeze", mayFreeze?.());
			if (event.type === "frozen") {
				frozenAtMs = monotonicMs();
				tell("release");
			}
			if (event.type === "report") reported.resolve(event.report);
		},
		onClosed: () => reported.reject(new Error("the agent went away")),
	});
	function tell(type: "freeze" | "release", first: Promise<void> = Promise.resolve()): void {
		const told = first.then(() => {
			// A job that has failed meanwhile refuses the word; its report says why.
			client.call("job.command", { command: { type, jobId } }, { limitMs: callLimitMs }).catch(() => undefined);
		});
		// Who must not freeze goes away, and with its connection the job.
		told.catch(reported.reject);
	}
	const orderedAtMs = monotonicMs();
	const answer = await client.call("job.order", { order }, { limitMs: callLimitMs });
	if (answer.type === "refused") throw new Error(`the order was refused: ${JSON.stringify(answer.error)}`);
	const report = await reported.promise;
	const { window } = report;
	if (window === undefined || report.error !== undefined || report.held !== "file-system") {
		throw new Error(`the job did not hold: ${JSON.stringify(report.error ?? report.because)}`);
	}
	return { jobId, orderedAtMs, frozenAtMs, reportedAtMs: monotonicMs(), phases, report: { ...report, window } };
}

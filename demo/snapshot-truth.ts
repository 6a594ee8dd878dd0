import { humanMs, table } from "../command-line/output.ts";
import type { ControllerJob } from "../contracts/controller-messages.ts";
import type { Verification } from "../contracts/verification.ts";

export type WriterTruth = {
	path: string;
	kind: string;
	/** Before the freeze; where nothing was frozen, before the order. */
	acknowledgedBefore: number;
	/** In the recovery point, whole and in order. */
	found: number;
	longestStallMs: number;
};

/** A snapshot's label beside what is really so. */
export type SnapshotTruth = {
	job: ControllerJob;
	verification: Verification;
	writers: WriterTruth[];
};

/** Every way in which a label and the truth can disagree; none is what the demo must show. */
export function findFaults(good: SnapshotTruth, bad: SnapshotTruth): string[] {
	const faults: string[] = [];
	const expect = (holds: boolean, fault: string) => void (holds || faults.push(fault));
	expect(good.job.level === "application", `the held snapshot is labelled ${good.job.level}, not application`);
	expect(good.verification.agrees, "the verification contradicts the label of the held snapshot");
	expect(good.verification.looksLike === "file-system", "the images of the held snapshot do not look like a freeze");
	expect(good.writers.length > 0, "no writer was looked at");
	for (const { path, found, acknowledgedBefore } of good.writers) {
		expect(acknowledgedBefore > 0, `${path}: the writer wrote nothing before the freeze`);
		expect(
			found >= acknowledgedBefore,
			`${path}: ${found} of ${acknowledgedBefore} acknowledged commits are in the recovery point`,
		);
	}
	expect(bad.job.level === "crash", `the snapshot without a freeze is labelled ${bad.job.level}, not crash`);
	expect(bad.verification.agrees, "the verification contradicts the label of the bad snapshot");
	expect(bad.verification.looksLike === "crash", "the verification does not see that the bad snapshot was not held");
	return faults;
}

/** Both snapshots side by side, for the end of the demo. */
export function renderTruth(good: SnapshotTruth, bad: SnapshotTruth): string {
	const rows: [string, (one: SnapshotTruth) => string][] = [
		["level", ({ job }) => job.level ?? "none"],
		["because", (one) => describeProof(one)],
		["the images look like", ({ verification }) => verification.looksLike],
		["window", ({ job }) => describeWindow(job)],
		["order to frozen", ({ job }) => humanMs(job.orderToFrozenMs)],
		["longest stall of a writer", ({ writers }) => humanMs(Math.max(...writers.map((one) => one.longestStallMs)))],
		["commits acknowledged before", ({ writers }) => String(sum(writers.map((one) => one.acknowledgedBefore)))],
		[
			"of these in the recovery point",
			({ writers }) => String(sum(writers.map((one) => Math.min(one.found, one.acknowledgedBefore)))),
		],
	];
	return table([["", "held", "not held"], ...rows.map(([name, cell]) => [name, cell(good), cell(bad)])]);
}

function describeProof({ job }: SnapshotTruth): string {
	const fileSystems = job.report?.fileSystems ?? [];
	const proved = fileSystems.filter((one) => one.frozenUntilSnapshotEnded).length;
	const sessions = (job.report?.scripts ?? []).filter((one) => one.held === true).length;
	if (proved === 0) return "nothing was frozen";
	return `${proved} of ${fileSystems.length} file systems proved frozen, ${sessions} applications proved held`;
}

function describeWindow({ report }: ControllerJob): string {
	if (report?.window === undefined) return "none";
	const { freezeMs, heldMs, thawMs } = report.window;
	return `${humanMs(freezeMs + heldMs + thawMs)} (held ${humanMs(heldMs)})`;
}

function sum(values: readonly number[]): number {
	return values.reduce((total, value) => total + value, 0);
}

import { basename } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { table } from "../command-line/output.ts";
import { makeLoopFileSystem } from "../test/fixtures/loop-file-system.ts";
import { startBenchAgent } from "./bench-agent.ts";
import { round } from "./figures.ts";
import { laterHalf, slopeOf } from "./growth.ts";
import { holdOnce } from "./hold-once.ts";
import { type ProcessUse, readProcessUse } from "./process-use.ts";
import { makeBenchFolders } from "./scratch-folders.ts";

export type Soak = {
	snapshots: number;
	seconds: number;
	/** What the agent held after so many snapshots; the first line is before the first. */
	series: ({ snapshots: number } & Pick<ProcessUse, "residentKiB" | "descriptors" | "threads" | "children">)[];
	/** Fitted to the later half of the series. */
	growthKiBPerSnapshot: number;
	/** No descriptor, thread or child more than after the first snapshots, and memory that does not grow. */
	goals: { what: string; isMet: boolean }[];
};

const samples = 20;
/** For processes of the last job to end. */
const settleMs = 2_000;
/** Of the resident memory, over the later half. */
const growthLimit = 0.05;

/** One agent, one clean ext4, one job after another: what the agent holds may not grow. */
export async function measureSoak(snapshots: number, signal: AbortSignal): Promise<Soak> {
	await using folders = await makeBenchFolders(60 * 60_000, "memory");
	await using disk = await makeLoopFileSystem({ dir: folders.images, fsType: "ext4", sizeMiB: 128, name: "clean" });
	await using agent = await startBenchAgent({ form: "bundled", folders, mountPoints: [disk.mountPoint], signal });
	const series: Soak["series"] = [];
	const every = Math.max(5, Math.floor(snapshots / samples));
	const beganMs = performance.now();
	await sample(0);
	for (let count = 1; count <= snapshots; count += 1) {
		await holdOnce({ runFolder: agent.runFolder, disks: [basename(disk.device)], signal });
		if (count % every === 0 || count === snapshots) await sample(count);
	}
	const seconds = round((performance.now() - beganMs) / 1000);
	const later = laterHalf(series);
	const growthKiBPerSnapshot = slopeOf(later.map(({ snapshots: x, residentKiB: y }) => ({ x, y })));
	const grownKiB = growthKiBPerSnapshot * ((later.at(-1)?.snapshots ?? 0) - (later[0]?.snapshots ?? 0));
	const [first, last] = [series[1], series.at(-1)];
	const holds = (key: "descriptors" | "threads" | "children") => (last?.[key] ?? 1) <= (first?.[key] ?? 0);
	return {
		snapshots,
		seconds,
		series,
		growthKiBPerSnapshot: round(growthKiBPerSnapshot),
		goals: [
			{ what: "no more descriptors", isMet: holds("descriptors") },
			{ what: "no more threads", isMet: holds("threads") },
			{ what: "no more children", isMet: holds("children") },
			{
				what: "memory grows by less than 5 % over the later half",
				isMet: grownKiB < growthLimit * (last?.residentKiB ?? 0),
			},
		],
	};

	async function sample(done: number): Promise<void> {
		await sleep(settleMs, undefined, { signal });
		const { residentKiB, descriptors, threads, children } = await readProcessUse(agent.program.pid);
		series.push({ snapshots: done, residentKiB, descriptors, threads, children });
	}
}

export function renderSoak({ series, growthKiBPerSnapshot, snapshots, seconds, goals }: Soak): string {
	const heads = ["snapshots", "residentMiB", "descriptors", "threads", "children"];
	const rows = series.map((one) => [
		one.snapshots,
		round(one.residentKiB / 1024),
		one.descriptors,
		one.threads,
		one.children,
	]);
	return [
		table([heads, ...rows.map((row) => row.map(String))]),
		"",
		`${snapshots} snapshots in ${seconds} s; memory in the later half: ${growthKiBPerSnapshot} KiB more with each`,
		table(goals.map(({ what, isMet }) => [what, isMet ? "met" : "MISSED"])),
	].join("\n");
}

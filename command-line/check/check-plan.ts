/** What a job would hold, by the plan of a job. */
import { dirname } from "node:path";
import type { LoadedConfig } from "../../agent/load-config.ts";
import type { Check, CheckedFileSystem, Finding } from "../../contracts/check.ts";
import { asStillpointError } from "../../contracts/errors.ts";
import type { FreezeResult } from "../../contracts/freezer-protocol.ts";
import type { DiskSelection } from "../../contracts/order.ts";
import type { Report } from "../../contracts/report.ts";
import { type JobPlan, planJob } from "../../extensions/vm-snapshot-linux/plan-job.ts";
import { loadFreezeCalls } from "../../platform/linux/freeze-calls.ts";
import { within } from "../../platform/within.ts";

const planLimitMs = 30_000;

type Given = { readonly loaded: LoadedConfig; readonly disks: DiskSelection; readonly signal: AbortSignal };

export type CheckPlan = JobPlan & { readonly fault?: Finding };

/** As a job plans. Where the run folder alone stands in the way, the rest is told all the same. */
export async function makeCheckPlan({ loaded: { config, folders }, disks, signal }: Given): Promise<CheckPlan> {
	const calls = await loadFreezeCalls();
	const plan = (level: "file-system" | "crash") => {
		const hostFolders = [folders.stateDir, folders.logDir, dirname(process.execPath)];
		const request = { ...config, hostFolders, runFolder: folders.runDir, order: { level, disks } };
		return within(planJob(request, calls, signal), planLimitMs, "the plan", signal);
	};
	try {
		return await plan("file-system");
	} catch (thrown) {
		const { code, message, traits } = asStillpointError(thrown);
		if (code !== "run-dir-unsafe") throw thrown;
		const what = "a job that freezes would be refused";
		return {
			...(await plan("crash")),
			fault: { check: "plan", status: "fail", what, why: message, remedy: traits.remedy },
		};
	}
}

export function describeFileSystem(
	{ mountPoint, device, fsType, superblock, disks, level }: JobPlan["fileSystems"][number],
	states: ReadonlyMap<string, CheckedFileSystem["state"]>,
	tried: Report | undefined,
): CheckedFileSystem {
	const one = tried?.fileSystems.find((other) => other.superblock === superblock);
	const { result, freezeMs, heldMs, thawMs, error } = one ?? {};
	return {
		mountPoint,
		device,
		fsType,
		superblock,
		disks: [...disks],
		order: level,
		state: states.get(superblock) ?? "unknown",
		...(result === undefined
			? {}
			: {
					tried: {
						result,
						...(freezeMs === undefined ? {} : { freezeMs }),
						...(heldMs === undefined ? {} : { heldMs }),
						...(thawMs === undefined ? {} : { thawMs }),
						...(error === undefined ? {} : { error }),
					},
				}),
	};
}

/** Superblocks that are known not to freeze: held by somebody else now, or by the try. */
export function failedFreezes(
	targets: readonly { readonly superblock: string; readonly mountPoint: string }[],
	frozen: Check["frozen"],
	tried: Report | undefined,
): Map<string, FreezeResult> {
	const foreign = new Set(frozen.filter(({ by }) => by === "other").map(({ mountPoint }) => mountPoint));
	const failed = new Map<string, FreezeResult>();
	for (const { superblock, mountPoint } of targets) if (foreign.has(mountPoint)) failed.set(superblock, "foreign");
	for (const { superblock, result } of tried?.fileSystems ?? [])
		if (result !== "thawed") failed.set(superblock, result);
	return failed;
}

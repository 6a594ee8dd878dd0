/**
 * The local consistency check put together: it plans as a job would, by the same configuration, and needs no agent.
 * Each part has a deadline, and one that fails is a finding like any other.
 */
import { readdir } from "node:fs/promises";
import { hostname } from "node:os";
import { checkConfig } from "../../agent/check-config.ts";
import { findGuard } from "../../agent/guard/guard-file.ts";
import type { LoadedConfig } from "../../agent/load-config.ts";
import type { Check, Finding } from "../../contracts/check.ts";
import type { FreezeResult } from "../../contracts/freezer-protocol.ts";
import { atLeast } from "../../contracts/level.ts";
import type { DiskSelection } from "../../contracts/order.ts";
import type { Report } from "../../contracts/report.ts";
import { version } from "../../contracts/version.ts";
import { agentFindings, findAgentStatus } from "./agent-findings.ts";
import { describeFileSystem, failedFreezes, makeCheckPlan } from "./check-plan.ts";
import { checkRunFolder } from "./check-run-folder.ts";
import { clusterPrograms, readClusterFindings } from "./cluster-timeouts.ts";
import { makeIsCovered } from "./covered-folders.ts";
import { foreseeDisks } from "./foresee-disks.ts";
import { frozenFindings, refuseToFreeze, triedFinding, unprobedFindings } from "./freeze-findings.ts";
import { probeTargets, readOurFreezes, tellFrozen } from "./frozen-now.ts";
import { guardFinding } from "./guard-finding.ts";
import { diskFinding, judgeCheck } from "./judge-check.ts";
import { mayBeFreezer, otherFreezerFindings } from "./other-freezers.ts";
import { findWithin } from "./part.ts";
import { readPredictedStall, stallFinding } from "./predicted-stall.ts";
import { readProcesses } from "./processes.ts";
import { databaseFindings, mayBeDatabase } from "./running-databases.ts";
import { checkScripts } from "./script-findings.ts";
import { layerFindings, runFolderFinding, stateFolderFinding, swapFindings } from "./storage-findings.ts";
import { tryFreeze } from "./try-freeze.ts";

const partLimitMs = 10_000;
const probeLimitMs = 5_000;

export type CheckOptions = {
	readonly loaded: LoadedConfig;
	readonly environment: Readonly<Record<string, string | undefined>>;
	readonly disks: DiskSelection;
	readonly tryFreeze: boolean;
	readonly signal: AbortSignal;
	/** Told before what takes long. */
	onStep(step: string): void;
};

/** @throws `job-running` for `tryFreeze` while a job runs, `disk-unknown`; what else goes wrong is a finding. */
export async function checkMachine(options: CheckOptions): Promise<Check> {
	const { loaded, disks, signal, onStep } = options;
	const { config, folders } = loaded;
	const found: Finding[] = [];
	const part = async (check: string, work: () => Promise<readonly Finding[]>, limitMs = partLimitMs) =>
		void found.push(...(await findWithin(check, limitMs, work, signal)));

	const agent: { status?: Awaited<ReturnType<typeof findAgentStatus>> } = {};
	await part("agent", async () => {
		agent.status = await findAgentStatus(folders.runDir, signal);
		const snapshotExtension = config.extensions.snapshot;
		return await agentFindings(agent.status, { folders, snapshotExtension, nowMs: Date.now() });
	});
	await part("guard", async () => [guardFinding(findGuard(folders.runDir))]);
	await part("config", () => configFindings(options));

	onStep("planning");
	const plan = await makeCheckPlan(options);
	found.push(...(plan.fault === undefined ? [] : [plan.fault]));
	const states = await probeTargets(plan.targets, probeLimitMs);
	const ours = await readOurFreezes([folders.runDir, checkRunFolder(folders.runDir)]);
	const frozen = tellFrozen(plan.targets, states, ours);
	found.push(...frozenFindings(frozen), ...unprobedFindings(plan, states));
	if (options.tryFreeze) refuseToFreeze(agent.status, frozen);

	onStep("trying the scripts");
	const scripts = await checkScripts(loaded, { isFrozen: frozen.length > 0, signal });
	found.push(...scripts.findings);

	onStep("looking at the machine");
	await part("processes", async () => {
		const isWanted = (name: string) => mayBeDatabase(name) || mayBeFreezer(name) || clusterPrograms.includes(name);
		const processes = await readProcesses(isWanted, signal);
		const azure = await readdir("/var/lib/waagent").catch(() => []);
		const isCovered = await makeIsCovered(processes, new Set(plan.fileSystems.map(({ superblock }) => superblock)));
		return [
			...databaseFindings(processes, scripts.applications, isCovered),
			...otherFreezerFindings(processes, azure),
			...(await readClusterFindings(processes, config.holdLimitCapMs)),
		];
	});
	let stall: Check["stall"];
	await part("stall", async () => {
		const disks = plan.disks.filter(({ included }) => included);
		const { expedited, stallBudgetMs } = config.freeze;
		stall = await readPredictedStall({ disks, fileSystems: plan.fileSystems, expedited });
		return [stallFinding(stall, stallBudgetMs)];
	});
	await part("run-folder", async () => [await runFolderFinding(folders.runDir)]);
	await part("state-folder", async () => [await stateFolderFinding(folders.stateDir)]);
	await part("swap", () => swapFindings(plan.notCovered));
	await part("encryption", () => layerFindings());

	const foresee = (failed: ReadonlyMap<string, FreezeResult>) =>
		foreseeDisks({
			plan,
			failed,
			applications: scripts.evidence,
			wereTried: scripts.wereTried,
			freezeDisabled: scripts.freezeDisabled,
		});
	let tried: Report | undefined;
	if (options.tryFreeze) {
		onStep("freezing for a moment");
		const reaches = foresee(new Map()).every(({ included, level }) => !included || atLeast(level, "file-system"));
		tried = await tryFreeze(loaded, disks, reaches ? "file-system" : "crash", signal);
		if (tried.error?.code !== "stuck") signal.throwIfAborted();
		found.push(triedFinding(tried));
	}
	const checkedDisks = foresee(failedFreezes(plan.targets, frozen, tried));
	const wanted = config.protection.level;
	found.push(...checkedDisks.filter(({ included }) => included).map((disk) => diskFinding(disk, wanted)));
	const findings = sortFindings(found);
	const fileSystems = plan.fileSystems.map((one) => describeFileSystem(one, states, tried));
	return {
		schemaVersion: 1,
		state: judgeCheck({ disks: checkedDisks, findings, frozen, wanted }),
		wanted,
		version,
		hostname: hostname(),
		checkedAt: new Date().toISOString(),
		disks: checkedDisks,
		fileSystems,
		notCovered: plan.notCovered.toSorted((a, b) => byCodeUnit(a.why, b.why) || byCodeUnit(a.what, b.what)),
		frozen,
		...(stall === undefined ? {} : { stall }),
		findings,
	};
}

async function configFindings({ loaded, environment }: CheckOptions): Promise<Finding[]> {
	const { configFile } = loaded;
	const { exists, warnings } = await checkConfig({ flags: { config: configFile }, environment }).catch(() => ({
		exists: false,
		warnings: [],
	}));
	const what = exists ? `${configFile} has no fault` : `${configFile} does not exist: defaults`;
	return [
		{ check: "config", status: "ok", what },
		...warnings.map(
			(one): Finding => ({ check: "config", status: "warn", what: one, remedy: "See stillpoint config check." }),
		),
	];
}

const gravity = { fail: 0, unknown: 1, warn: 2, ok: 3 } as const;

/** Before what follows from them: levels of disks, which stand in the table of disks besides. */
const first = ["stuck", "frozen", "try-freeze", "plan", "guard"];
const rank = ({ check }: Finding) => (first.includes(check) ? first.indexOf(check) : check === "level" ? 99 : 50);

/** The gravest first; the same machine gives the same order. */
function sortFindings(found: readonly Finding[]): Finding[] {
	return found.toSorted(
		(a, b) =>
			gravity[a.status] - gravity[b.status] ||
			rank(a) - rank(b) ||
			byCodeUnit(a.check, b.check) ||
			byCodeUnit(a.what, b.what),
	);
}

function byCodeUnit(a: string, b: string): number {
	return a < b ? -1 : a > b ? 1 : 0;
}

import { basename } from "node:path";
import { loadFreezeCalls } from "../../platform/linux/freeze-calls.ts";

import { type BenchAgent, bundledFreezer, startBenchAgent } from "../bench-agent.ts";
import { createRandom } from "../random-order.ts";
import { type BenchFolders, type ImagesOn, makeBenchFolders } from "../scratch-folders.ts";
import { agentContender } from "./agent-contender.ts";
import { type CaseMachine, makeCaseMachine } from "./case-machine.ts";
import { allMountPoints, type FreezeCase } from "./cases.ts";
import type { Contender } from "./contender.ts";
import { keepExpeditedSwitch } from "./expedited-switch.ts";
import { floorContenders } from "./floor-contenders.ts";
import { freezerContender } from "./freezer-contender.ts";
import { fsfreezeContender } from "./fsfreeze-contender.ts";
import { type Goal, judgeGoals, type Measured, ratioOf } from "./goals.ts";
import { type CaseFigures, type ContenderFigures, measureCase } from "./measure-case.ts";
import { readOwnTargets } from "./own-targets.ts";
import { qemuGaContender } from "./qemu-ga-contender.ts";
import { startQemuGa } from "./qemu-ga-process.ts";

export type FreezeOptions = {
	readonly cases: readonly FreezeCase[];
	readonly rounds: number;
	readonly seed: number;
	readonly imagesOn: ImagesOn;
	/** Also what the kernel itself takes. */
	readonly withFloor: boolean;
	readonly onCase?: (name: string) => void;
	readonly signal: AbortSignal;
};

/** One case of the document that `--json` prints: docs/measurements.md. */
export type FreezeCaseResult = {
	readonly name: string;
	/** How many. */
	readonly fileSystems: number;
	readonly rounds: number;
	readonly agent: ContenderFigures;
	readonly freezer: ContenderFigures;
	readonly qemuGa: ContenderFigures;
	readonly fsfreeze: ContenderFigures;
	readonly floorInTurn?: ContenderFigures;
	readonly floorAtOnce?: ContenderFigures;
	/** The agent's `frozenStallMs` over qemu-ga's. */
	readonly ratioToQemuGa: number;
	readonly noiseMs: number;
	readonly failures: CaseFigures["failures"];
	readonly goals: readonly Goal[];
};

const guardLimitMs = 40 * 60_000;

export type FreezeResult = {
	readonly cases: readonly FreezeCaseResult[];
	/** Cases that could not be measured, and why. */
	readonly failed: readonly { readonly name: string; readonly message: string }[];
};

export async function measureFreeze(options: FreezeOptions): Promise<FreezeResult> {
	const { cases, signal } = options;
	using _keep = await keepExpeditedSwitch(signal);
	const random = createRandom(options.seed);
	await using folders = await makeBenchFolders(guardLimitMs, options.imagesOn);
	const mountPoints = allMountPoints(folders.images);
	await using agent = await startBenchAgent({ form: "bundled", folders, mountPoints, signal });
	const measured = new Map<string, FreezeCaseResult>();
	const failed: { name: string; message: string }[] = [];
	for (const wanted of cases) {
		options.onCase?.(wanted.name);
		try {
			await using undo = new AsyncDisposableStack();
			const machine = undo.use(await makeCaseMachine(wanted, folders.images, signal));
			const contenders = await startContenders(machine, { folders, agent, options, undo });
			const figures = await measureCase(machine, contenders, { rounds: options.rounds, random, signal });
			measured.set(wanted.name, resultOf(wanted, figures, options.rounds, measured));
		} catch (error) {
			signal.throwIfAborted();
			failed.push({ name: wanted.name, message: (error as Error).message });
		}
	}
	return { cases: [...measured.values()], failed };
}

async function startContenders(
	{ fileSystems }: CaseMachine,
	given: { folders: BenchFolders; agent: BenchAgent; options: FreezeOptions; undo: AsyncDisposableStack },
): Promise<Contender[]> {
	const { folders, agent, options, undo } = given;
	// Upper layers first, which are mounted last: the other way round the second freeze would wait for ever.
	const points = fileSystems.map(({ mountPoint }) => mountPoint).reverse();
	const disks = fileSystems.flatMap(({ devices }) => devices.map((device) => basename(device)));
	const targets = await readOwnTargets(fileSystems);
	const qemuGa = undo.use(await startQemuGa(folders.images, folders.run, options.signal));
	return [
		agentContender(agent.runFolder, disks),
		freezerContender(folders.run, bundledFreezer(folders), targets),
		await qemuGaContender(qemuGa, points),
		fsfreezeContender(points),
		...(options.withFloor ? floorContenders(await loadFreezeCalls(), folders.run, targets) : []),
	];
}

function resultOf(
	wanted: FreezeCase,
	{ contenders, noiseMs, failures }: CaseFigures,
	rounds: number,
	measured: ReadonlyMap<string, Measured>,
): FreezeCaseResult {
	const { agent, freezer, qemuGa, fsfreeze, floorInTurn, floorAtOnce } = contenders;
	if (!agent || !freezer || !qemuGa || !fsfreeze) throw new Error(`${wanted.name}: a contender was not measured`);
	return {
		name: wanted.name,
		fileSystems: wanted.fileSystems.length,
		rounds,
		agent,
		freezer,
		qemuGa,
		fsfreeze,
		...(floorInTurn && floorAtOnce ? { floorInTurn, floorAtOnce } : {}),
		ratioToQemuGa: Number(ratioOf(agent, qemuGa).toFixed(4)),
		noiseMs,
		failures,
		goals: judgeGoals(wanted, { agent, qemuGa }, measured),
	};
}

import { table } from "../../command-line/output.ts";
import type { ContenderFigures } from "./measure-case.ts";
import type { FreezeCaseResult } from "./measure-freeze.ts";

const contenders = [
	["agent", "Stillpoint, whole path"],
	["freezer", "its freezer alone"],
	["qemuGa", "qemu-ga"],
	["fsfreeze", "fsfreeze in a loop"],
	["floorInTurn", "floor, one by one"],
	["floorAtOnce", "floor, all at once"],
] as const;

/** For people: the median of each, and its lowest and highest round. */
export function renderFreeze(cases: readonly FreezeCaseResult[], seed: number): string {
	const rows = cases.flatMap((one) => [
		...contenders.flatMap(([key, label], index) => {
			const figures = one[key];
			return figures === undefined ? [] : [[index === 0 ? one.name : "", label, ...cells(figures)]];
		}),
		["", "quiet", `${one.noiseMs}`, "", ""],
	]);
	const heads = ["case", "who", "frozenStallMs", "jobStallMs", "skewMs"];
	const goals = cases.flatMap((one) =>
		one.goals.map(({ what, isMet }) => [one.name, String(one.ratioToQemuGa), what, isMet ? "met" : "MISSED"]),
	);
	const rounds = cases[0]?.rounds ?? 0;
	const again = cases.flatMap(({ name, failures }) =>
		failures.map(({ who, message }) => `again: ${name}, ${who}: ${message}`),
	);
	return [
		`median (lowest to highest) of ${rounds} rounds, in ms; seed ${seed}`,
		table([heads, ...rows]),
		"",
		table([["case", "ratioToQemuGa", "goal", ""], ...goals]),
		...again,
	].join("\n");
}

function cells({ frozenStallMs, jobStallMs, skewMs, rounds }: ContenderFigures): string[] {
	return [
		withRange(frozenStallMs, rounds.frozenStallMs),
		withRange(jobStallMs, rounds.jobStallMs),
		withRange(skewMs, rounds.skewMs),
	];
}

function withRange(median: number, rounds: readonly number[]): string {
	return `${median} (${Math.min(...rounds)} to ${Math.max(...rounds)})`;
}

/** `npm run fuzz`: every parser of outside bytes, for as long as is asked. Exit status 1 when one failed. */
import { availableParallelism } from "node:os";
import { parseArgs } from "node:util";
import { runFuzzRounds, type TargetFigures } from "./fuzz-rounds.ts";
import { type FuzzGroup, fuzzGroups } from "./fuzz-target.ts";
import { makeFuzzWorker } from "./fuzz-worker.ts";
import { makeSamples, type Samples } from "./make-samples.ts";
import { isFuzzGroup, makeTargetsOf } from "./target-table.ts";

const usage = `usage: npm run fuzz -- [--minutes N] [--group NAME]... [--target NAME] [--seed S [--path P]] [--list]
  --minutes N   in all, over what is chosen (default 1)
  --group NAME  one of ${fuzzGroups.join(", ")}; may be repeated
  --seed S      the same cases again; with --path P the one case that failed
`;

const say = (line: string) => void process.stdout.write(`${line}\n`);

process.exitCode = await main(process.argv.slice(2));

function parseWords(args: string[]) {
	return parseArgs({
		args,
		options: {
			minutes: { type: "string", default: "1" },
			group: { type: "string", multiple: true, default: [] },
			target: { type: "string" },
			seed: { type: "string", default: String(Date.now() | 0) },
			path: { type: "string" },
			list: { type: "boolean", default: false },
			help: { type: "boolean", default: false },
		},
	}).values;
}

async function main(words: string[]): Promise<number> {
	let values: ReturnType<typeof parseWords>;
	try {
		values = parseWords(words);
	} catch (error) {
		say(`${(error as Error).message}\n${usage}`);
		return 64;
	}
	const { target, path } = values;
	const [limitMs, seed] = [Number(values.minutes) * 60_000, Number(values.seed)];
	const strange = values.group.find((name) => !isFuzzGroup(name));
	if (values.help || strange !== undefined || !(limitMs > 0) || !Number.isInteger(seed)) {
		say(`${strange === undefined ? "" : `there is no group ${strange}\n`}${usage}`);
		return values.help ? 0 : 64;
	}
	using samples = makeSamples();
	for (const lack of samples.missing) say(`this machine ${lack}: fewer real samples`);
	const groups = values.group.length > 0 ? values.group.filter(isFuzzGroup) : [...fuzzGroups];
	if (values.list) return await list(groups, samples);
	if (path !== undefined) return await replay(groups, samples, { target, seed, path });
	say(`seed ${seed}, ${values.minutes} min for ${groups.join(", ")} on one of ${availableParallelism()} processors`);
	const told = new Set<string>();
	const figures = await runFuzzRounds({
		...{ groups, target, seed, limitMs, samplesFolder: samples.folder },
		onTurn: (one) => {
			if (one.failure === undefined || told.has(one.target)) return;
			told.add(one.target);
			tellFailure(one);
		},
	});
	say(table(figures));
	const failed = figures.filter(({ failure }) => failure !== undefined).length;
	const cases = figures.reduce((sum, one) => sum + one.cases, 0);
	say(`${cases} cases of ${figures.length} targets, ${failed} failed`);
	if (figures.length === 0) say(`there is no target ${target}`);
	return failed > 0 || figures.length === 0 ? 1 : 0;
}

async function list(groups: readonly FuzzGroup[], { folder }: Samples): Promise<number> {
	for (const group of groups)
		for (const { name, parser } of await makeTargetsOf(group, folder))
			say(`${group.padEnd(20)}${name.padEnd(26)}${parser}`);
	return 0;
}

async function replay(
	groups: readonly FuzzGroup[],
	{ folder }: Samples,
	at: { target: string | undefined; seed: number; path: string },
): Promise<number> {
	for (const group of groups) {
		const target = (await makeTargetsOf(group, folder)).find(({ name }) => name === at.target);
		if (target === undefined) continue;
		await using worker = makeFuzzWorker({ group, samplesFolder: folder });
		const failure = await worker.replay(target, at);
		say(failure === undefined ? "it does not fail" : `${failure.what}\ninput: ${failure.input}`);
		return failure === undefined ? 0 : 1;
	}
	say(`there is no target ${at.target}: name it by --target`);
	return 64;
}

function tellFailure({ target, group, failure }: TargetFigures): void {
	if (failure === undefined) return;
	const { what, input, seed, path } = failure;
	say(`\nFAILED ${group}/${target}\n${what}\ninput: ${input}`);
	say(`again: npm run fuzz -- --target ${target} --seed=${seed} --path ${path}\n`);
}

function table(figures: readonly TargetFigures[]): string {
	const head = ["target", "cases", "accepted", "cases/s", "seconds", "slowest ms", "most MiB"];
	const rows = figures.map((one) => [
		`${one.failure === undefined ? "" : "FAILED "}${one.group}/${one.target}`,
		String(one.cases),
		`${Math.round((100 * one.accepted) / Math.max(1, one.cases))} %`,
		String(Math.round(one.cases / Math.max(0.001, one.seconds))),
		one.seconds.toFixed(0),
		one.slowestCpuMs.toFixed(1),
		(one.largestGrowthBytes / 1_048_576).toFixed(1),
	]);
	const widths = head.map((name, column) => Math.max(name.length, ...rows.map((row) => (row[column] ?? "").length)));
	const line = (row: readonly string[]) =>
		row
			.map((cell, column) => (column === 0 ? cell.padEnd(widths[column] ?? 0) : cell.padStart(widths[column] ?? 0)))
			.join("  ");
	return [head, ...rows].map(line).join("\n");
}

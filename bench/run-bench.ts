/** `npm run bench -- freeze | order-to-frozen | idle | soak | databases`: measurements as root on Linux; docs/measurements.md. */
import { stat } from "node:fs/promises";
import { table } from "../command-line/output.ts";
import { requireTools } from "../test/fixtures/required-tools.ts";
import { type BenchWords, benchUsage, parseBenchWords } from "./bench-words.ts";
import { measureDatabaseStalls } from "./database-stall.ts";
import { chooseCases } from "./freeze/choose-cases.ts";
import { measureFreeze } from "./freeze/measure-freeze.ts";
import { renderFreeze } from "./freeze/render-freeze.ts";
import { measureIdle } from "./idle.ts";
import { measureOrderToFrozen } from "./order-to-frozen.ts";
import { measureSoak, renderSoak } from "./soak.ts";

// Each FIFREEZE of the floor keeps a thread of this process. libuv reads the number when its pool is first used; the
// programs that are measured must not inherit it.
process.env["UV_THREADPOOL_SIZE"] = "80";
await stat("/");
delete process.env["UV_THREADPOOL_SIZE"];

const stopping = new AbortController();
for (const name of ["SIGINT", "SIGTERM"] as const) process.on(name, () => stopping.abort());

type Printed = { readonly document: object; readonly text: string };

try {
	const given = process.argv.slice(2);
	if (given.includes("--help")) process.stdout.write(benchUsage);
	else await run(parseBenchWords(given));
} catch (error) {
	if (stopping.signal.aborted) process.exitCode = 130;
	else if (error instanceof RangeError) fail(`${error.message}\n${benchUsage}`, 2);
	else fail((error as Error).stack ?? String(error), 1);
}

async function run(words: BenchWords): Promise<void> {
	const missing = missingFor(words);
	if (missing === undefined) {
		const { document, text } = await measure(words, stopping.signal);
		const printed = words.json ? JSON.stringify({ schemaVersion: 1, bench: words.bench, ...document }) : text;
		process.stdout.write(`${printed}\n`);
	} else {
		process.stderr.write(`bench: ${missing}\n`);
		process.exitCode = 69;
	}
}

function fail(message: string, status: number): void {
	process.stderr.write(`bench: ${message}\n`);
	process.exitCode = status;
}

function missingFor({ bench }: BenchWords): string | undefined {
	if (process.platform !== "linux") return "runs on Linux only";
	const tools = { freeze: ["qemu-ga", "unshare", "mkfs.xfs", "mkfs.btrfs"], databases: ["psql", "mariadbd"] };
	const wanted = bench === "freeze" || bench === "databases" ? tools[bench] : [];
	return requireTools("root", "mkfs.ext4", "fsfreeze", "losetup", "setpriv", ...wanted);
}

async function measure(words: BenchWords, signal: AbortSignal): Promise<Printed> {
	const { quick } = words;
	switch (words.bench) {
		case "freeze": {
			const { seed = Math.floor(Math.random() * 2 ** 32), imagesOn = "memory" } = words;
			const rounds = words.rounds ?? (quick ? 5 : 7);
			const withFloor = words.withFloor || !quick;
			const options = { cases: chooseCases(words.cases, quick), rounds, seed, imagesOn, withFloor, signal };
			const onCase = (name: string): void => void process.stderr.write(`${name} ...\n`);
			const result = await measureFreeze({ ...options, onCase });
			for (const { name, message } of result.failed) fail(`${name}: ${message}`, 1);
			return { document: { seed, rounds, imagesOn, ...result }, text: renderFreeze(result.cases, seed) };
		}
		case "order-to-frozen":
			return rowsOf(await measureOrderToFrozen(quick ? 5 : 20, signal));
		case "idle":
			return rowsOf(await measureIdle(quick ? 15 : 300, signal));
		case "soak": {
			const result = await measureSoak(quick ? 25 : 500, signal);
			return { document: result, text: renderSoak(result) };
		}
		case "databases":
			return rowsOf(await measureDatabaseStalls(quick ? 5 : 20, signal));
	}
}

function rowsOf(rows: readonly object[]): Printed {
	const heads = Object.keys(rows[0] ?? {});
	const cell = (value: unknown) =>
		typeof value === "object" && value !== null
			? Object.entries(value)
					.map(([key, one]) => `${key} ${one}`)
					.join(", ")
			: String(value);
	return { document: { rows }, text: table([heads, ...rows.map((row) => Object.values(row).map(cell))]) };
}

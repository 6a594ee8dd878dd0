/** `npm run bench -- order-to-frozen | idle | databases  [--quick] [--json]`: measurements as root on Linux; a table, or one document. */
import { parseArgs } from "node:util";
import { table } from "../command-line/output.ts";
import { measureDatabaseStalls } from "./database-stall.ts";
import { measureIdle } from "./idle.ts";
import { measureOrderToFrozen } from "./order-to-frozen.ts";

const stopping = new AbortController();
for (const name of ["SIGINT", "SIGTERM"] as const) process.on(name, () => stopping.abort());

const { values, positionals } = parseArgs({
	allowPositionals: true,
	options: { json: { type: "boolean" }, quick: { type: "boolean" } },
});
const [name] = positionals;
const quick = values.quick === true;

if (process.platform !== "linux" || process.getuid?.() !== 0) {
	process.stderr.write("bench: needs root on Linux, because it freezes scratch file systems\n");
	process.exitCode = 69;
} else if (name === "order-to-frozen") {
	print(await measureOrderToFrozen(quick ? 5 : 20, stopping.signal));
} else if (name === "idle") {
	print(await measureIdle(quick ? 15 : 60, stopping.signal));
} else if (name === "databases") {
	print(await measureDatabaseStalls(quick ? 5 : 20, stopping.signal));
} else {
	process.stderr.write("bench: say which: order-to-frozen, idle or databases\n");
	process.exitCode = 2;
}

function print(rows: readonly object[]): void {
	if (values.json === true) {
		process.stdout.write(`${JSON.stringify({ schemaVersion: 1, bench: name, rows })}\n`);
		return;
	}
	const heads = Object.keys(rows[0] ?? {});
	const cell = (value: unknown) =>
		typeof value === "object" && value !== null
			? Object.entries(value)
					.map(([key, one]) => `${key} ${one}`)
					.join(", ")
			: String(value);
	process.stdout.write(`${table([heads, ...rows.map((row) => Object.values(row).map(cell))])}\n`);
}

/** `npm run check`: all that needs no root and no loop device. Every step runs, so that one look shows every fault. */
import { spawnSync } from "node:child_process";

const steps = [
	["types", "tsc"],
	["lint and format", "biome", "check", "--error-on-warnings", "."],
	[
		"lint canary (must fail)",
		"biome",
		"lint",
		"--config-path=test/fixtures/lint-canary/canary.biome.json",
		"test/fixtures/lint-canary",
	],
	["dead code", "knip"],
	["unit and architecture", "vitest", "run", "--project", "unit", "--project", "architecture"],
] as const;

let failed = 0;
for (const [name, program, ...words] of steps) {
	const mustFail = name.includes("must fail");
	const started = performance.now();
	const { status, stdout, stderr } = spawnSync(program, words, { encoding: "utf8" });
	const output = `${stdout}${stderr}`;
	const good = mustFail ? canaryWasCaught(output) : status === 0;
	if (!good) failed += 1;
	process.stdout.write(`${good ? "ok  " : "FAIL"}  ${name} (${((performance.now() - started) / 1000).toFixed(1)} s)\n`);
	if (!good) process.stdout.write(`${output}\n`);
}
process.exitCode = failed === 0 ? 0 : 1;

/** Typed rules can be switched off by a slip in the configuration without a word: each one must bite here. */
function canaryWasCaught(output: string): boolean {
	return ["noFloatingPromises", "noMisusedPromises", "useExhaustiveSwitchCases", "noConsole", "noDefaultExport"].every(
		(rule) => output.includes(rule),
	);
}

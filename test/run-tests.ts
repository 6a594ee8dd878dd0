/**
 * `npm test`: says what this machine lacks (with `CI=true` and root on Debian it installs it, else a lack is an error),
 * bundles the programs, runs every ring, and ends with one line that counts passed, failed and skipped.
 */
import { type SpawnSyncOptions, spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { bundleInto } from "./fixtures/bundle.ts";
import { compiledFolder } from "./fixtures/compiled-folder.ts";
import { testPrograms } from "./fixtures/programs.ts";
import { missingTools, packagesOf } from "./fixtures/required-tools.ts";

type JsonReport = {
	numPassedTests: number;
	numFailedTests: number;
	numPendingTests: number;
	numTodoTests: number;
	success: boolean;
};

const everything = [
	"mkfs.ext4",
	"mkfs.xfs",
	"mkfs.btrfs",
	"fsfreeze",
	"losetup",
	"strace",
	"unshare",
	"pgrep",
	"faketime",
	"openssl",
	"python3",
	"psql",
	"mariadbd",
	"mariadb",
	"redis-cli",
	"nbdkit",
	"nbdfuse",
	"fusermount3",
	"root",
];
const say = (line: string) => void process.stdout.write(`${line}\n`);

process.exitCode = await main();

async function main(): Promise<number> {
	if (!provideTools(process.env["CI"] === "true")) return 1;
	const folder = mkdtempSync(join(tmpdir(), "stillpoint-test-programs-"));
	try {
		// What former runs compiled lay in folders of their own, and would be kept for ever.
		rmSync(compiledFolder, { recursive: true, force: true });
		await bundleInto(folder, testPrograms);
		return runRings(process.argv.slice(2), process.env["CI"] === "true", folder);
	} finally {
		rmSync(folder, { recursive: true, force: true });
	}
}

/** False when the tests must not run. */
function provideTools(ci: boolean): boolean {
	let missing = missingTools(everything);
	const packages = packagesOf(missing);
	if (ci && packages.length > 0 && process.getuid?.() === 0) {
		say(`installing: ${packages.join(" ")}`);
		const environment = { ...process.env, DEBIAN_FRONTEND: "noninteractive" };
		const options: SpawnSyncOptions = { stdio: ["ignore", "ignore", "inherit"], env: environment };
		spawnSync("apt-get", ["update", "-qq"], options);
		spawnSync("apt-get", ["install", "-y", "-qq", "--no-install-recommends", ...packages], options);
		missing = missingTools(everything);
	}
	if (missing.length === 0) return true;
	const lacking = packagesOf(missing);
	say(`This machine lacks: ${missing.join(", ")}. What needs them is skipped and counted.`);
	if (lacking.length > 0) say(`To run everything: apt-get install ${lacking.join(" ")}`);
	return !ci;
}

function runRings(words: readonly string[], ci: boolean, programsFolder: string): number {
	const folder = mkdtempSync(join(tmpdir(), "stillpoint-test-report-"));
	const which = words.length === 0 ? ["--project=!faults"] : words;
	const isWhole = which.length === 1 && which[0]?.startsWith("--project=") === true;
	try {
		const output = join(folder, "report.json");
		const run = spawnSync(
			"vitest",
			["run", "--reporter=default", "--reporter=json", `--outputFile.json=${output}`, ...which],
			{
				stdio: "inherit",
				env: { ...process.env, STILLPOINT_TEST_PROGRAMS: programsFolder },
			},
		);
		const report = JSON.parse(readFileSync(output, "utf8")) as JsonReport;
		const skipped = report.numPendingTests + report.numTodoTests;
		say(`${report.numPassedTests} passed, ${report.numFailedTests} failed, ${skipped} skipped`);
		if (ci && skipped > 0 && isWhole) {
			say("With CI=true nothing may be skipped.");
			return 1;
		}
		return run.status ?? 1;
	} finally {
		rmSync(folder, { recursive: true, force: true });
	}
}

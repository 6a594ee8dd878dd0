import { type ChildProcess, execFile, spawn } from "node:child_process";
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { bundleInto } from "../fixtures/bundle.ts";
import { expectDocument } from "../fixtures/expect-document.ts";
import { requireTools } from "../fixtures/required-tools.ts";

const root = resolve(import.meta.dirname, "../..");
const lacking = requireTools("root", "openssl", "unshare");
const stepLimitMs = 120_000;

/** A block of the guide that is more than an example: ```LANGUAGE WORD WORD */
type Step = {
	readonly kind: "run" | "shows" | "file" | "agent";
	readonly until: boolean;
	readonly file: string;
	readonly text: string;
};

function parseGuide(markdown: string): Step[] {
	return [...markdown.matchAll(/^```\w+ (.+)\n([\s\S]*?)^```$/gm)].map(([, words = "", text = ""]) => {
		const [first = "", second] = words.split(" ");
		const file = first.startsWith("file=") ? first.slice("file=".length) : "";
		const kind = file === "" ? (first as Step["kind"]) : "file";
		if (!["run", "shows", "file", "agent"].includes(kind)) throw new Error(`an unknown kind of block: ${words}`);
		return { kind, until: second === "until", file, text };
	});
}

describe.skipIf(lacking)(`the guide for authors of extensions${lacking ? ` (${lacking})` : ""}`, () => {
	let base: string;
	let runRoot: string;
	let agent: ChildProcess | undefined;
	const steps = parseGuide(readFileSync(join(root, "docs/extension-guide.md"), "utf8"));

	/** Where the guide says /opt and /etc, a folder of this test. */
	const moved = (text: string) => text.replaceAll(/(?<![\w.])\/(opt|etc)\//g, `${base}/$1/`);

	beforeAll(async () => {
		base = mkdtempSync("/var/lib/stillpoint-test-guide-");
		runRoot = mkdtempSync("/dev/shm/stillpoint-test-guide-");
		for (const folder of ["work", "bin", "opt", "etc"]) mkdirSync(join(base, folder), { mode: 0o755 });
		const dist = join(base, "dist");
		await bundleInto(dist);
		// What is installed on a machine finds its folders without being told.
		const runFolder = `--run-dir ${join(runRoot, "run")}`;
		const folders = `--config ${base}/etc/stillpoint/agent.json --state-dir ${base}/state --log-dir ${base}/log ${runFolder}`;
		writeFileSync(
			join(base, "bin/stillpoint"),
			`#!/bin/sh
case "$1 $2" in
"agent run") set -- "$@" ${folders} ;;
"extensions show" | "extensions apply" | "extensions list") set -- "$@" ${runFolder} ;;
esac
exec ${process.execPath} ${dist}/stillpoint.mjs "$@"
`,
			{ mode: 0o755 },
		);
	}, 120_000);

	afterAll(async () => {
		if (agent !== undefined && agent.exitCode === null) {
			const ended = new Promise((done) => agent?.once("exit", done));
			agent.kill("SIGTERM");
			const timer = setTimeout(() => agent?.kill("SIGKILL"), 20_000);
			await ended;
			clearTimeout(timer);
		}
		rmSync(base, { recursive: true, force: true });
		rmSync(runRoot, { recursive: true, force: true });
	}, 60_000);

	const environment = () => ({
		...process.env,
		PATH: `${base}/bin:${dirname(process.execPath)}:/usr/sbin:/usr/bin:/sbin:/bin`,
	});

	async function run(text: string): Promise<string> {
		const options = { cwd: join(base, "work"), env: environment(), timeout: stepLimitMs };
		// The two languages are independent of each other: a block's lines may run side by side.
		const lines = text.startsWith("stillpoint extensions test") ? text.trim().split("\n") : [text];
		const outputs = lines.map((line) => promisify(execFile)("/bin/sh", ["-ec", moved(line)], options));
		return (await Promise.all(outputs)).map(({ stdout, stderr }) => stdout + stderr).join("");
	}

	function write(file: string, text: string): void {
		const path = file.startsWith("/") ? moved(file) : join(base, "work", file);
		mkdirSync(dirname(path), { recursive: true, mode: 0o755 });
		let content = moved(text);
		if (file.endsWith("agent.json")) {
			const config = JSON.parse(content);
			config.extensions.settingsFolder = join(base, "etc/stillpoint/extensions.d");
			content = JSON.stringify(config);
		}
		// As an editor saves: the mode of a file that is there stays.
		writeFileSync(path, content);
		if (file.endsWith("bin/handler")) expect(() => chmodSync(path, 0o755)).not.toThrow();
	}

	function startAgent(text: string): Promise<void> {
		const child = spawn("/bin/sh", ["-c", `exec ${moved(text.trim())}`], {
			env: environment(),
			stdio: ["ignore", "pipe", "inherit"],
		});
		agent = child;
		return new Promise((ready, failed) => {
			child.stdout.setEncoding("utf8").on("data", (said: string) => said.includes("agent ready") && ready());
			child.once("exit", (code) => failed(new Error(`the agent ended with ${code}`)));
		});
	}

	test("a skeleton's list of files is one document for programs", async () => {
		const output = await run("stillpoint extensions new Listed --language sh --into listed --json");
		expect(expectDocument("extensions new", output)).toMatchObject({
			name: "Listed",
			folder: join(base, "work/listed"),
		});
	});

	test("leads a newcomer from nothing to two extensions that run, by its own words alone", async () => {
		expect(steps.filter(({ kind }) => kind === "file").length).toBeGreaterThan(6);
		let output = "";
		let again: string | undefined;
		for (const step of steps) {
			if (step.kind === "file") write(step.file, step.text);
			else if (step.kind === "agent") await startAgent(step.text);
			else if (step.kind === "run") {
				again = step.until ? step.text : undefined;
				output = await run(step.text);
			} else {
				const missing = () =>
					step.text
						.trim()
						.split("\n")
						.filter((line) => !output.includes(line));
				const deadline = performance.now() + stepLimitMs;
				while (again !== undefined && missing().length > 0 && performance.now() < deadline) output = await run(again);
				expect({ missing: missing(), output: missing().length > 0 ? output : "" }).toEqual({ missing: [], output: "" });
			}
		}
	}, 300_000);
});

/** Completions, driven in a real bash; zsh and fish where they are installed. */
import { execFileSync } from "node:child_process";
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { allCommands, type CommandNode, readCommandTree } from "../../command-line/command-tree.ts";
import { writeCompletionScript } from "../../command-line/completion-scripts.ts";
import { explainableWords } from "../../command-line/explanations.ts";
import { plainPage } from "../../command-line/layout.ts";
import { renderJobs } from "../../command-line/render-jobs.ts";
import { makeProgram } from "../../command-line/run-command-line.ts";
import { levels } from "../../contracts/level.ts";
import { memoryContext } from "../fixtures/memory-context.ts";
import { requireTools } from "../fixtures/required-tools.ts";

const tree: CommandNode = readCommandTree(
	makeProgram(memoryContext().context, async () => {}),
	explainableWords(),
);
let folder: string;
let commandPath: string;

beforeAll(() => {
	folder = mkdtempSync("/dev/shm/stillpoint-test-completion-");
	const jobs = ["night-1", "night-2"].map((jobId) => ({
		jobId,
		phase: "done" as const,
		requested: "crash" as const,
		achieved: "crash" as const,
		startedAt: "2026-11-20T11:00:00.000Z",
	}));
	mkdirSync(join(folder, "some dir"));
	writeFileSync(join(folder, "some file"), "");
	commandPath = join(folder, "stillpoint");
	writeFileSync(commandPath, `#!/bin/sh\n[ "$1" = jobs ] || exit 1\ncat <<'E'\n${renderJobs(jobs, plainPage)}\nE\n`);
	chmodSync(commandPath, 0o755);
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** What each line would be completed to; the last word is the one under the cursor. */
function completeInBash(lines: readonly (readonly string[])[]): string[][] {
	const script = [
		writeCompletionScript("bash", tree),
		"complete -p stillpoint",
		// biome-ignore lint/suspicious/noTemplateCurlyInString: it is bash's.
		'try() { COMP_WORDS=(stillpoint "$@"); COMP_CWORD=$#; _stillpoint "$COMMAND"; printf "> %s\\n" "${COMPREPLY[@]}"; echo =end=; }',
		...lines.map((line) => `try ${line.map((word) => `'${word}'`).join(" ")}`),
	].join("\n");
	const env = { PATH: process.env["PATH"], COMMAND: commandPath };
	const out = execFileSync("bash", ["--norc", "--noprofile"], {
		input: script,
		cwd: folder,
		encoding: "utf8",
		env,
		stdio: ["pipe", "pipe", "ignore"],
	});
	expect(out).toMatch(/^complete -F _stillpoint stillpoint$/m);
	return out
		.split("=end=\n")
		.slice(0, lines.length)
		.map((block) => [...block.matchAll(/^> (.+)$/gm)].map(([, word]) => word as string));
}

describe.skipIf(requireTools("bash"))("in bash", () => {
	test("every command and every option is offered where it belongs", () => {
		const nodes = allCommands(tree);
		expect(nodes.length).toBeGreaterThan(30);
		const offered = completeInBash(nodes.map(({ path }) => [...path.split(" ").filter(Boolean), "-"]));
		const children = completeInBash(nodes.map(({ path }) => [...path.split(" ").filter(Boolean), ""]));
		nodes.forEach((node, index) => {
			const names = node.options.flatMap((one) => one.names);
			expect(offered[index], node.path).toEqual(expect.arrayContaining(names));
			const below = node.children.map(({ path }) => path.split(" ").at(-1));
			if (below.length > 0) expect(children[index], node.path).toEqual(below);
		});
	});

	test("a line is completed as a person expects", () => {
		const cases: [string, string[], unknown][] = [
			["the beginning of a command", ["sta"], ["status"]],
			["a command of a group", ["controller", "ag"], ["agents"]],
			["nothing below a name that is no command", ["nonsense", "x"], []],
			["the words of an option", ["snapshot", "--level", ""], levels.slice(1)],
			[
				"the beginning of one, after another option and its value",
				["snapshot", "--disk", "vda", "--accept", "f"],
				["file-system"],
			],
			[
				"no command where a value stands that is named like one",
				["snapshot", "--disk", "status", "--lev"],
				["--level"],
			],
			["an option of what a group does by itself", ["controller", "agents", "--cred"], ["--credentials"]],
			["words to explain", ["explain", "foreign"], ["foreign-freeze"]],
			["folders only for a folder", ["status", "--run-dir", "some"], ["some dir"]],
			["files and folders for a file", ["config", "check", "some"], expect.arrayContaining(["some dir", "some file"])],
			["shells", ["completion", ""], ["bash", "zsh", "fish"]],
			["ids of jobs, asked of the agent", ["report", "night"], ["night-1", "night-2"]],
			["nothing after the last argument", ["report", "night-1", ""], []],
			["the other name of a command", ["agent", "enroll", "--tok"], ["--token"]],
		];
		const found = completeInBash(cases.map(([, line]) => line));
		cases.forEach(([what, , expected], index) => {
			expect(found[index], what).toEqual(expected);
		});
	});
});

test.each([
	["zsh", ["-n", "-c"]],
	["fish", ["--no-execute", "-c"]],
] as const)("%s takes its script", (shell, flags) => {
	const script = writeCompletionScript(shell, tree);
	for (const { path } of allCommands(tree)) expect(script).toContain(`'${path}`);
	if (requireTools(shell) === undefined) execFileSync(shell, [...flags, script]);
	// Without zsh: what both shells read alike is looked at by bash, but for the two lines of zsh's own expansions.
	else if (shell === "zsh")
		execFileSync("bash", ["-n"], { input: script.replaceAll(/^\t\t(job|words)\) compadd.*$/gm, "\t\t$1) : ;;") });
});

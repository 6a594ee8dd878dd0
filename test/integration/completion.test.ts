/** Completions, driven in real shells. */
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
	return blocksOf(out, lines.length);
}

/** zsh's own functions of its completion system are stood in for; what they are given is what zsh would offer. */
function completeInZsh(lines: readonly (readonly string[])[]): string[][] {
	const script = [
		"compdef() { }",
		'compadd() { shift; for one in "$@"; do [[ $one == "$cur"* ]] && print -r -- "> $one"; done }',
		'_files() { for one in "$cur"*(N); do [[ $1 != -/ || -d $one ]] && print -r -- "> $one"; done }',
		writeCompletionScript("zsh", tree),
		'try() { words=("$COMMAND" "$@"); CURRENT=$#words; _stillpoint; print "=end="; }',
		...lines.map((line) => `try ${line.map((word) => `'${word}'`).join(" ")}`),
	].join("\n");
	return run("zsh", ["-f"], script, lines.length);
}

function completeInFish(lines: readonly (readonly string[])[]): string[][] {
	const script = [
		writeCompletionScript("fish", tree),
		...lines.map((line) => `complete -C 'stillpoint ${line.join(" ")}' | cut -f1 | sed 's/^/> /; s,/$,,'; echo =end=`),
	].join("\n");
	return run("fish", ["--no-config"], script, lines.length);
}

function run(shell: string, flags: string[], input: string, count: number): string[][] {
	const env = { PATH: `${folder}:${process.env["PATH"]}`, HOME: folder, COMMAND: commandPath };
	const file = join(folder, `try.${shell}`);
	writeFileSync(file, input);
	const out = execFileSync(shell, [...flags, file], { cwd: folder, encoding: "utf8", env, timeout: 20_000 });
	return blocksOf(out, count);
}

function blocksOf(out: string, count: number): string[][] {
	const blocks = out.split("=end=\n").slice(0, count);
	return blocks.map((block) =>
		[...block.matchAll(/^> (.+)$/gm)].map(([, word]) => (word as string).replaceAll("\\", "")),
	);
}

const cases: readonly (readonly [string, readonly string[], readonly string[]])[] = [
	["the beginning of a command", ["sta"], ["status"]],
	["a command of a group", ["controller", "ag"], ["agents"]],
	["nothing below a name that is no command", ["nonsense", "x"], []],
	["the words of an option", ["snapshot", "--level", ""], levels.slice(1)],
	[
		"the beginning of one, after another option and its value",
		["snapshot", "--disk", "vda", "--accept", "f"],
		["file-system"],
	],
	["no command where a value stands that is named like one", ["snapshot", "--disk", "status", "--lev"], ["--level"]],
	["an option of what a group does by itself", ["controller", "agents", "--cred"], ["--credentials"]],
	["words to explain", ["explain", "foreign"], ["foreign-freeze"]],
	["folders only for a folder", ["status", "--run-dir", "some"], ["some dir"]],
	["files and folders for a file", ["config", "check", "some"], ["some dir", "some file"]],
	["shells", ["completion", ""], ["bash", "zsh", "fish"]],
	["ids of jobs, asked of the agent", ["report", "night"], ["night-1", "night-2"]],
	["nothing after the last argument", ["report", "night-1", ""], []],
	["the other name of a command", ["agent", "enroll", "--tok"], ["--token"]],
	["the beginning of a folder and nothing else for one", ["check", "--state-dir", "some"], ["some dir"]],
];

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
});

describe.each([
	["bash", completeInBash],
	["zsh", completeInZsh],
	["fish", completeInFish],
] as const)("%s", (shell, complete) => {
	test.skipIf(requireTools(shell))("completes a line as a person expects", () => {
		const found = complete(cases.map(([, line]) => line));
		cases.forEach(([what, , expected], index) => {
			expect(found[index]?.toSorted(), what).toEqual(expected.toSorted());
		});
	});
});

test.each(["zsh", "fish"] as const)("%s's script has every command", (shell) => {
	const script = writeCompletionScript(shell, tree);
	for (const { path } of allCommands(tree)) expect(script).toContain(`'${path}`);
});

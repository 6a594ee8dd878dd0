/** CONTRIBUTING.md: what it tells to type is there, and its example of a change works. And no page names a lost command. */
import { existsSync, readFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { execa } from "execa";
import { describe, expect, test } from "vitest";
import { commandOf } from "../fixtures/command-names.ts";
import { parsePage } from "../fixtures/page-blocks.ts";

const root = resolve(import.meta.dirname, "../..");
const read = (path: string) => readFileSync(join(root, path), "utf8");
const page = read("CONTRIBUTING.md");
const { scripts } = JSON.parse(read("package.json")) as { scripts: Record<string, string> };
const projects = [...read("vitest.config.ts").matchAll(/\bname: "([\w-]+)"/g)].map((match) => match[1] as string);

/** Lines of shell blocks, and code within a sentence; without comments and sudo. */
function commandsIn(markdown: string, begin: RegExp): string[] {
	const blocks = [...markdown.matchAll(/^```sh.*\n([\s\S]*?)^```$/gm)].flatMap(([, text = ""]) => text.split("\n"));
	const inline = [...markdown.replaceAll(/^```[\s\S]*?^```$/gm, "").matchAll(/`([^`\n]+)`/g)].map(
		([, text = ""]) => text,
	);
	const all = [...blocks, ...inline].map((line) => line.replace(/\s+#.*$/, "").replace(/^sudo /, ""));
	return all.map((line) => line.trim()).filter((line) => begin.test(line));
}

/** Why a command of the project's own can't be run, or undefined. */
function faultOf(command: string): string | undefined {
	const [program, name = "", ...words] = command.split(/\s+/);
	if (program === "npx" && !existsSync(join(root, "node_modules/.bin", name))) return `no program: ${name}`;
	if (program === "npm") {
		const script = name === "run" ? words[0] : name;
		if (script !== "ci" && script !== "..." && !Object.hasOwn(scripts, script ?? "")) return `no script: ${script}`;
	}
	const project = /--project "?([\w-]+\*?)/.exec(command)?.[1];
	const isMeant = (one: string) => one === project || (project?.endsWith("*") && one.startsWith(project.slice(0, -1)));
	if (project !== undefined && !projects.some(isMeant)) return `no project: ${project}`;
	const lost = words.find((word) => /^\w[\w.-]*\/[\w./-]+$/.test(word) && !existsSync(join(root, word)));
	return lost === undefined ? undefined : `no file: ${lost}`;
}

describe("CONTRIBUTING.md", () => {
	test("names no script, program, project or file that is not there", () => {
		const commands = commandsIn(page, /^(npm|npx) /).filter((one) => !one.endsWith("..."));
		expect(commands.length).toBeGreaterThan(15);
		expect(commands.flatMap((one) => faultOf(one) ?? [])).toEqual([]);
		const paths = commandsIn(page, /^(test|docs|command-line|contracts)\/[\w./-]*$/);
		expect(paths.length).toBeGreaterThan(5);
		expect(paths.filter((path) => !existsSync(join(root, path)))).toEqual([]);
	});

	test.each([
		["npm run no-such-script", "no script: no-such-script"],
		["npx no-such-program --all", "no program: no-such-program"],
		["npx vitest run --project giant", "no project: giant"],
		['npx vitest run --project "giant-*"', "no project: giant-*"],
		["npx vitest run test/unit/lost.test.ts", "no file: test/unit/lost.test.ts"],
	])("%s would be found", (command, fault) => {
		expect(faultOf(command)).toBe(fault);
	});

	test("its example of a change works as it stands", async () => {
		const blocks = parsePage(page);
		expect(blocks.length).toBe(2);
		const { VITEST: _, ...env } = process.env;
		const path = `${join(root, "node_modules/.bin")}:${dirname(process.execPath)}:${env["PATH"]}`;
		const results = blocks.map(({ text }) =>
			// npx finds what is installed in node_modules/.bin; so does this, without npm's own start.
			execa("/bin/sh", ["-ec", text.replaceAll("npx ", "")], {
				...{ cwd: root, env: { ...env, PATH: path }, extendEnv: false, all: true, reject: false },
			}),
		);
		for (const { exitCode, all } of await Promise.all(results)) expect(exitCode, all).toBe(0);
	});
});

describe("pages for admins", () => {
	test.each(["README.md", "docs/admin-guide.md", "docs/check.md"])("%s names no command that is not there", (path) => {
		const commands = commandsIn(read(path), /^(npx )?stillpoint /);
		expect(commands.length).toBeGreaterThan(5);
		expect(commands.filter((one) => faultOfOurs(one) !== undefined)).toEqual([]);
	});

	test.each(["stillpoint stat", "npx stillpoint controller agent", "stillpoint status --freeze"])(
		"%s would be found",
		(command) => expect(faultOfOurs(command)).toBeDefined(),
	);
});

/** A text in quotes is one word, and what follows a pipe is not ours. */
function faultOfOurs(command: string): string | undefined {
	const words = command.replaceAll(/'[^']*'|"[^"]*"/g, "TEXT").replace(/^(npx )?stillpoint /, "");
	return commandOf(words.split(/\s+/)) === undefined ? command : undefined;
}

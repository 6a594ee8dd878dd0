/** docs/command-line.md and the JSON Schema of what commands print: from the program itself and the contract. */
import { z } from "zod";
import { allCommands, type CommandNode, type OptionNode, readCommandTree } from "../command-line/command-tree.ts";
import { explainableWords } from "../command-line/explanations.ts";
import { makeProgram } from "../command-line/run-command-line.ts";
import { type CommandName, commandErrorSchema, commandOutputs, outcomeStatuses } from "../contracts/command-output.ts";

/** Nothing is run, so nothing of it is used. */
const nowhere = {
	environment: {},
	stopping: new AbortController().signal,
	signalled: () => undefined,
	stdout: () => {},
	stderr: () => {},
	isTerminal: false,
};

function readCommands(): CommandNode[] {
	const root = readCommandTree(
		makeProgram(nowhere, async () => {}),
		explainableWords(),
	);
	return allCommands(root).filter(({ path }) => path !== "");
}

/** The parts of the page below its title. */
export function commandLineParts(): string[] {
	return [rules, ...readCommands().map(commandPart)];
}

const rules = `One program, \`stillpoint\`; \`--help\` of every command says what stands here.

## Rules of all commands

- **stdout** is the answer: one document for people, or with \`--json\` one JSON document on one line, whose \`schemaVersion\` is 1 ([schema](command-output.schema.json)). Unknown fields may appear; known ones keep their meaning.
- **stderr** is for people: progress and errors. With \`--json\` it stays empty, and an error is the document on stdout: \`{"schemaVersion": 1, "error": {"code", "message", "remedy", "retryable", "details"?}}\`. A job that failed has a report all the same: \`snapshot\` and \`controller snapshot\` then print that document, with \`error\` in it.
- **The exit status** is that of the error's code in [errors.md](errors.md), 0 for done, or one that stands with the command below. \`stillpoint explain CODE\` tells what a code, a word of \`because\` or a status means.
- **Colours** only on a terminal. \`NO_COLOR\` (any value that is not empty) and \`--no-color\` end all doubt; \`CLICOLOR_FORCE\` (neither empty nor 0) gives colours also when piped, for recordings; \`TERM=dumb\` gives none.
- **Width.** On a terminal lines are broken to fit it. Piped, a row of a table is a line, however long; \`COLUMNS\` changes that.
- **Progress** of what takes long is one line that is written anew on a terminal, and a line for each step else. Nothing is written while disks are held.
- A reader that goes away (\`| head\`) ends what only tells; what holds a freeze goes on and lets go as ordered. An answer that cannot be written (a full disk) ends with 74 instead of 0 or 3, and stderr says so, also with \`--json\`.
- **SIGINT and SIGTERM** (Ctrl-C) end a command with 130 or 143, after all that it held is let go: a job is cancelled, a \`--try-freeze\` thaws. Services (\`run\`) and \`controller events\` end with 0.
- **Paths** may be relative to the folder of the call. Folders that no option names are those of the agent's variables (\`STILLPOINT_RUN_DIR\`, \`STILLPOINT_STATE_DIR\`), else the usual ones.
- **Who may.** Nearly everything needs root, and a refusal names the command to use and ends with 5. Members of the group \`readersGroup\` of the [configuration](configuration.md) may run \`status\`, \`jobs\`, \`report\` and \`extensions list\` without it; they see no output of scripts.
- **Completions:** \`eval "$(stillpoint completion bash)"\`, or the script in \`/etc/bash_completion.d/stillpoint\`; \`zsh\` and \`fish\` alike.`;

function commandPart(node: CommandNode): string {
	const { path, children, defaultChild } = node;
	const lines = [`## stillpoint ${path}`, sentence(node.description)];
	if (children.length > 0) {
		const names = children.map((child) => `\`${child.path.slice(path.length + 1)}\``).join(", ");
		const usual = defaultChild === undefined ? "" : ` Without one: \`${defaultChild}\`.`;
		return [...lines, `Commands: ${names}.${usual}`].join("\n\n");
	}
	lines.push(["```text", `stillpoint ${path}${usageOf(node)}`, "```"].join("\n"));
	const rows = [
		...node.arguments.map((one) => `- \`${one.name}\`: ${one.description || "see above"}`),
		...node.options.filter(({ names }) => !names.includes("--help") && !names.includes("--json")).map(optionRow),
	];
	if (rows.length > 0) lines.push(rows.join("\n"));
	const statuses = Object.entries(outcomeStatuses[path as CommandName] ?? {}).map(
		([status, what]) => `${status}: ${what}`,
	);
	if (statuses.length > 0) lines.push(`Ends with ${statuses.join("; ")}.`);
	lines.push(`\`--json\` prints \`${schemaName(path)}\` of the [schema](command-output.schema.json).`);
	return lines.join("\n\n");
}

function usageOf(node: CommandNode): string {
	const words = node.arguments.map(({ name, isRequired, isVariadic }) => {
		const word = isVariadic ? `${name}...`.replace("......", "...") : name;
		return isRequired ? `<${word}>` : `[${word}]`;
	});
	return ["", "[options]", ...words].join(" ");
}

function optionRow({ flags, description, value, isMandatory, defaultValue }: OptionNode): string {
	const choices = value?.type === "words" ? `; one of ${value.words.join(", ")}` : "";
	const isShown =
		defaultValue !== undefined && defaultValue !== "" && !(Array.isArray(defaultValue) && defaultValue.length === 0);
	const usual = isShown ? `; default ${String(defaultValue)}` : "";
	return `- \`${flags}\`: ${description}${choices}${usual}${isMandatory ? "; required" : ""}`;
}

function sentence(text: string): string {
	const first = text.charAt(0).toUpperCase() + text.slice(1);
	return first.endsWith(".") ? first : `${first}.`;
}

/** `controller agents list` is `controllerAgentsList`. */
function schemaName(path: string): string {
	return path.replaceAll(/[ -](\w)/g, (_, letter: string) => letter.toUpperCase());
}

/** Each shape by its name in `$defs`; what several of them hold stands there once. */
export function commandOutputJsonSchema(): unknown {
	const entries = [["error", commandErrorSchema] as const, ...Object.entries(commandOutputs)];
	const all = z.object(Object.fromEntries(entries.map(([path, schema]) => [schemaName(path), schema])));
	const { properties, $defs } = z.toJSONSchema(all, { io: "output" });
	return {
		$schema: "https://json-schema.org/draft/2020-12/schema",
		title: "What the commands of stillpoint print with --json",
		$defs: { ...properties, ...$defs },
	};
}

/**
 * Completions for three shells, from the tree of commands. All three walk the words before the cursor the same way: a
 * word that begins with - is an option (and takes the next word with it when it has a value), one that names a command
 * leads down, any other is an argument.
 */
import { allCommands, type CommandNode, type OptionNode, type ValueKind } from "./command-tree.ts";

export const shells = ["bash", "zsh", "fish"] as const;
export type Shell = (typeof shells)[number];

export function writeCompletionScript(shell: Shell, root: CommandNode): string {
	if (shell === "fish") return fishScript(root);
	return shell === "bash" ? bashScript(root) : zshScript(root);
}

type Step = { readonly from: string; readonly word: string; readonly to: string };

function stepsOf(root: CommandNode): Step[] {
	return allCommands(root).flatMap((node) =>
		node.children.flatMap((child) =>
			[nameOf(child), ...child.aliases].map((word) => ({ from: node.path, word, to: child.path })),
		),
	);
}

function nameOf({ path }: CommandNode): string {
	return path.slice(path.lastIndexOf(" ") + 1);
}

/** `at:--option` of every option that takes a value, with what it may be. */
function valuesOf(root: CommandNode): { names: string[]; value: ValueKind }[] {
	return allCommands(root).flatMap((node) =>
		optionsOf(node).flatMap(({ names, value }) =>
			value === undefined ? [] : [{ names: names.map((name) => `${node.path}:${name}`), value }],
		),
	);
}

/** A group that does something without a command takes the options of what it does. */
function optionsOf(node: CommandNode): readonly OptionNode[] {
	const inner = node.children.find((child) => nameOf(child) === node.defaultChild);
	return inner === undefined ? node.options : [...inner.options, ...node.options];
}

const quote = (text: string) => `'${text.replaceAll("'", "'\\''")}'`;

/** The middle of both scripts: bash and zsh read `case` alike. It sets `kind` and `candidates`. */
function walk(root: CommandNode, first: string, words: string, count: string): string {
	const optionsAtEnd = root.options.flatMap(({ names }) => names);
	const lines = [
		`	local at='' word='' before='' kind='words' candidates='' skip=0 args=0 i`,
		`	for ((i = ${first}; i < ${count}; i++)); do`,
		`		word="\${${words}[i]}"`,
		`		if ((skip)); then skip=0; continue; fi`,
		`		case "\${at}:\${word}" in`,
		`			${valuesOf(root)
			.flatMap(({ names }) => names.map(quote))
			.join(" | ")}) skip=1 ;;`,
		`			*:-*) ;;`,
		...stepsOf(root).map(({ from, word, to }) => `			${quote(`${from}:${word}`)}) at=${quote(to)} args=0 ;;`),
		`			*) args=$((args + 1)) ;;`,
		`		esac`,
		`	done`,
		`	if ((skip)); then before="\${${words}[${count} - 1]}"; fi`,
		`	case "\${at}:\${before}" in`,
		...valuesOf(root).flatMap(({ names, value }) => {
			const pattern = names.map(quote).join(" | ");
			return [`		${pattern}) kind=${value.type}${wordsOf(value)} ;;`];
		}),
		`		*)`,
		`			case "\${at}:\${args}" in`,
		...allCommands(root).flatMap((node) => argumentCases(node)),
		`			esac`,
		`			case "$cur" in -*)`,
		`				kind=words`,
		`				case "$at" in`,
		...allCommands(root).map((node) => {
			const own = optionsOf(node).flatMap(({ names }) => names);
			return `					${quote(node.path)}) candidates=${quote([...new Set([...own, ...optionsAtEnd])].join(" "))} ;;`;
		}),
		`				esac ;;`,
		`			esac ;;`,
		`	esac`,
	];
	return lines.join("\n");
}

function argumentCases(node: CommandNode): string[] {
	const names = node.children.map(nameOf);
	const cases = names.length > 0 ? [`				${quote(`${node.path}:0`)}) candidates=${quote(names.join(" "))} ;;`] : [];
	node.arguments.forEach(({ value, isVariadic }, index) => {
		const pattern = isVariadic ? `${quote(`${node.path}:`)}*` : quote(`${node.path}:${index}`);
		cases.push(`				${pattern}) kind=${value.type}${wordsOf(value)} ;;`);
	});
	return cases;
}

function wordsOf(value: ValueKind): string {
	return value.type === "words" ? ` candidates=${quote(value.words.join(" "))}` : "";
}

/** The agent's latest jobs, when it answers soon; the last column is the id. */
const jobs = `timeout 2 "$1" jobs --limit 50 2>/dev/null | awk 'NR > 1 { print $NF }'`;

function bashScript(root: CommandNode): string {
	return `# Completions of stillpoint for bash: eval "$(stillpoint completion bash)"
_stillpoint() {
	local cur="\${COMP_WORDS[COMP_CWORD]}"
	COMPREPLY=()
${walk(root, "1", "COMP_WORDS", "COMP_CWORD")}
	case "$kind" in
		file) compopt -o filenames 2>/dev/null; mapfile -t COMPREPLY < <(compgen -f -- "$cur") ;;
		folder) compopt -o filenames 2>/dev/null; mapfile -t COMPREPLY < <(compgen -d -- "$cur") ;;
		job) mapfile -t COMPREPLY < <(compgen -W "$(${jobs})" -- "$cur") ;;
		words) mapfile -t COMPREPLY < <(compgen -W "$candidates" -- "$cur") ;;
	esac
}
complete -F _stillpoint stillpoint
`;
}

function zshScript(root: CommandNode): string {
	return `#compdef stillpoint
# Completions of stillpoint for zsh: eval "$(stillpoint completion zsh)"
_stillpoint() {
	local cur="\${words[CURRENT]}"
	set -- "\${words[1]}"
${walk(root, "2", "words", "CURRENT")}
	case "$kind" in
		file) _files ;;
		folder) _files -/ ;;
		job) compadd -- \${(f)"$(${jobs})"} ;;
		words) compadd -- \${(s: :)candidates} ;;
	esac
}
# In a folder of fpath this file is the function; else it is sourced.
if [ "\${funcstack[1]}" = _stillpoint ]; then _stillpoint "$@"; else compdef _stillpoint stillpoint; fi
`;
}

function fishScript(root: CommandNode): string {
	const skipping = valuesOf(root).flatMap(({ names }) => names.map(fishQuote));
	const lines = [
		"# Completions of stillpoint for fish: stillpoint completion fish | source",
		"function __stillpoint_at",
		"	set -l at ''",
		"	set -l args 0",
		"	set -l skip 0",
		"	for word in (commandline -opc)[2..-1]",
		"		if test $skip = 1; set skip 0; continue; end",
		'		switch "$at:$word"',
		`			case ${skipping.join(" ")}`,
		"				set skip 1",
		"			case '*:-*'",
		...stepsOf(root).map(
			({ from, word, to }) => `			case ${fishQuote(`${from}:${word}`)}\n				set at ${fishQuote(to)}; set args 0`,
		),
		"			case '*'",
		"				set args (math $args + 1)",
		"		end",
		"	end",
		'	echo "$at:$args"',
		"end",
		"complete -c stillpoint -f",
	];
	for (const node of allCommands(root)) {
		const here = (args: string) =>
			`-n ${fishQuote(`string match -q -- ${fishQuote(`${node.path}:${args}`)} (__stillpoint_at)`)}`;
		for (const child of node.children)
			lines.push(`complete -c stillpoint ${here("0")} -a ${nameOf(child)} -d ${fishQuote(child.description)}`);
		node.arguments.forEach(({ value, isVariadic }, index) => {
			const given = fishValue(value);
			if (given !== "") lines.push(`complete -c stillpoint ${here(isVariadic ? "*" : String(index))}${given}`);
		});
		for (const { names, description, value } of optionsOf(node)) {
			const flags = names.map((name) => (name.startsWith("--") ? `-l ${name.slice(2)}` : `-s ${name.slice(1)}`));
			// -x: with a value, and of files none but those that are asked for.
			const takes = value === undefined ? "" : ` ${value.type === "file" ? "-r" : "-x"}${fishValue(value)}`;
			lines.push(`complete -c stillpoint ${here("*")} ${flags.join(" ")}${takes} -d ${fishQuote(description)}`);
		}
	}
	return `${lines.join("\n")}\n`;
}

function fishValue(value: ValueKind): string {
	switch (value.type) {
		case "words":
			return ` -a ${fishQuote(value.words.join(" "))}`;
		case "file":
			return " -F";
		case "folder":
			return " -a '(__fish_complete_directories)'";
		case "job":
			return ` -a ${fishQuote("(timeout 2 stillpoint jobs --limit 50 2>/dev/null | awk 'NR > 1 { print $NF }')")}`;
		case "free":
			return "";
	}
}

function fishQuote(text: string): string {
	return `'${text.replaceAll("\\", "\\\\").replaceAll("'", "\\'")}'`;
}

/** The commands as data, read from the program itself: what completions and docs/command-line.md are made of. */
import type { Argument, Command, Option } from "commander";

export type ValueKind =
	| { readonly type: "words"; readonly words: readonly string[] }
	| { readonly type: "file" | "folder" | "job" | "free" };

export type OptionNode = {
	/** `--level`, and `-V` where there is a short one. */
	readonly names: readonly string[];
	readonly flags: string;
	readonly description: string;
	/** Undefined for one that takes no value. */
	readonly value?: ValueKind;
	readonly isMandatory: boolean;
	readonly defaultValue?: unknown;
};

export type ArgumentNode = {
	readonly name: string;
	readonly description: string;
	readonly value: ValueKind;
	readonly isRequired: boolean;
	readonly isVariadic: boolean;
};

export type CommandNode = {
	/** `controller agents map`; empty for the program. */
	readonly path: string;
	readonly aliases: readonly string[];
	readonly usage: string;
	readonly description: string;
	readonly options: readonly OptionNode[];
	readonly arguments: readonly ArgumentNode[];
	readonly children: readonly CommandNode[];
	/** Of a group: what it does when no command is named. */
	readonly defaultChild?: string;
};

/** @param wordsOfExplain what the argument of `explain` may be */
export function readCommandTree(program: Command, wordsOfExplain: readonly string[]): CommandNode {
	const help = program.createHelp();
	const read = (command: Command, path: readonly string[]): CommandNode => {
		const children = help
			.visibleCommands(command)
			.filter((one) => one.name() !== "help")
			.map((one) => read(one, [...path, one.name()]));
		const name = (command as unknown as { _defaultCommandName?: string | null })._defaultCommandName;
		return {
			path: path.join(" "),
			aliases: command.aliases(),
			usage: help.commandUsage(command),
			description: help.commandDescription(command),
			options: help.visibleOptions(command).map(readOption),
			arguments: command.registeredArguments.map((one) => readArgument(one, path.join(" "), wordsOfExplain)),
			children,
			...(name ? { defaultChild: name } : {}),
		};
	};
	return read(program, []);
}

/** The node and all below it, each before those below it. */
export function allCommands(node: CommandNode): CommandNode[] {
	return [node, ...node.children.flatMap(allCommands)];
}

function readOption(option: Option): OptionNode {
	const takesValue = option.required || option.optional;
	const names = [option.long, option.short].filter((one) => one !== undefined);
	return {
		names,
		flags: option.flags,
		description: option.description,
		...(takesValue ? { value: kindOf(option.argChoices, /<([\w-]+)>/.exec(option.flags)?.[1] ?? "") } : {}),
		isMandatory: option.mandatory && option.defaultValue === undefined,
		...(option.defaultValue === undefined || !takesValue ? {} : { defaultValue: option.defaultValue }),
	};
}

function readArgument(argument: Argument, path: string, wordsOfExplain: readonly string[]): ArgumentNode {
	const name = argument.name();
	const isJob = name === "job" && !path.startsWith("controller");
	return {
		name,
		description: argument.description,
		value: isJob
			? { type: "job" }
			: path === "explain"
				? { type: "words", words: wordsOfExplain }
				: kindOf(argument.argChoices, name),
		isRequired: argument.required,
		isVariadic: argument.variadic,
	};
}

function kindOf(choices: readonly string[] | undefined, name: string): ValueKind {
	if (choices !== undefined) return { type: "words", words: choices };
	return { type: name === "file" || name === "folder" ? name : "free" };
}

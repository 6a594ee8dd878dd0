import { basename } from "node:path";

const shells = /^(?:ba|da|z|k|a)?sh$/;
const interpreters = /^(?:ba|da|z|k|a)?sh$|^(?:python|perl|ruby|node|php|lua)[\d.]*$|^env$/;

/** The program text is in the command itself. */
const inlineOptions = /^(?:-[a-zA-Z]*[ceErm]|--eval|--print)$/;
const inlineShellOption = /^-[a-zA-Z]*c$/;

/**
 * What a known interpreter is told to run: its first argument that is an absolute path. Further arguments are data (a
 * database is its owner's, not root's). Of a program text in the command (`sh -c TEXT`) it is `word`, the path that the
 * text begins with.
 */
export function findScriptArgument(
	command: readonly string[],
): { readonly index: number } | { readonly word: string } | undefined {
	const [program = "", ...args] = command;
	const name = basename(program);
	if (!interpreters.test(name)) return undefined;
	for (const [position, arg] of args.entries()) {
		if (arg.startsWith("/")) return { index: position + 1 };
		if (name !== "env" && (shells.test(name) ? inlineShellOption : inlineOptions).test(arg)) {
			const word = /^\s*(\/[^\s;&|<>()"'$`\\]+)/.exec(args[position + 1] ?? "")?.[1];
			return word === undefined ? undefined : { word };
		}
	}
	return undefined;
}

export function isInterpreter(program: string): boolean {
	return interpreters.test(basename(program));
}

import { basename } from "node:path";

const shell = /^(?:ba|da|z|k|a)?sh$/;

/** Known interpreters, with the options of each after which the next word is the program text itself. */
const interpreters: readonly { readonly name: RegExp; readonly inline?: RegExp }[] = [
	{ name: shell, inline: /^-[a-zA-Z]*c[a-zA-Z]*$/ },
	{ name: /^python[\d.]*$/, inline: /^-[a-zA-Z]*[cm]$/ },
	{ name: /^perl[\d.]*$/, inline: /^-[a-zA-Z]*[eE]$/ },
	{ name: /^ruby[\d.]*$/, inline: /^-[a-zA-Z]*e$/ },
	{ name: /^node[\d.]*$/, inline: /^(?:-[ep]|-pe|--eval|--print)$/ },
	{ name: /^php[\d.]*$/, inline: /^-r$/ },
	{ name: /^lua[\d.]*$/, inline: /^-e$/ },
	{ name: /^env$/ },
];

/**
 * What a known interpreter is told to run: its first argument that is an absolute path. Further arguments are data (a
 * database is its owner's, not root's). Of a shell's text in the command (`sh -c TEXT`): `word`, a path that it begins with.
 */
export function findScriptArgument(
	command: readonly string[],
): { readonly index: number } | { readonly word: string } | undefined {
	const [program = "", ...args] = command;
	const name = basename(program);
	const known = interpreters.find((one) => one.name.test(name));
	if (known === undefined) return undefined;
	for (const [position, arg] of args.entries()) {
		if (arg.startsWith("/")) return { index: position + 1 };
		if (known.inline?.test(arg) !== true) continue;
		const word = shell.test(name) ? /^\s*(\/[^\s;&|<>()"'$`\\]+)/.exec(args[position + 1] ?? "")?.[1] : undefined;
		return word === undefined ? undefined : { word };
	}
	return undefined;
}

export function isInterpreter(program: string): boolean {
	return interpreters.some(({ name }) => name.test(basename(program)));
}

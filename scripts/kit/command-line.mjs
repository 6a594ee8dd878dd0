/** What the command lines of the scripts have in common. Never a secret: everybody can read them. */
import { join } from "node:path";
import { parseArgs } from "node:util";
import { exits, HoldError } from "./hold-session.mjs";

/** Of every script that speaks to a server. */
export const serverOptions = {
	credentials: { type: "string" },
	"client-folder": { type: "string" },
	"os-user": { type: "string" },
	"lock-timeout-ms": { type: "string", default: "5000" },
};

/**
 * Answers `--help`, and a command line that says nothing.
 *
 * @param {string} name stands before the message on stderr
 * @param {string} usage
 * @param {string[]} args
 * @param {object} options as parseArgs takes them; `--dry-run` and `--help` are added
 * @param {(values: object, positionals: string[]) => object} check makes the script's own options, or throws HoldError
 * @returns {object | undefined} undefined: answered, the exit status is set
 */
export function readCommandLine(name, usage, args, options, check) {
	try {
		const { values, positionals } = parseArgs({
			args,
			options: {
				...options,
				"dry-run": { type: "boolean", default: false },
				help: { type: "boolean", default: false },
			},
			allowPositionals: true,
		});
		if (values.help) {
			process.stdout.write(`${usage}\n`);
			return undefined;
		}
		return { ...check(values, positionals), dryRun: values["dry-run"] };
	} catch (error) {
		const message = error.code?.startsWith("ERR_PARSE_ARGS") ? `${unknownOption(error)}\n${usage}` : error.message;
		process.stderr.write(`${name}: ${message}\n`);
		process.exitCode = error instanceof HoldError ? error.exitCode : exits.usage;
		return undefined;
	}
}

export function refusePositionals(positionals) {
	if (positionals.length > 0) throw new HoldError(exits.usage, `${positionals[0]}: not expected here`);
}

/** What is in a credentials file is for nobody else, and a process shows its environment to whom it runs as. */
export function refuseOtherUser(values) {
	if (values.credentials !== undefined && values["os-user"] !== undefined)
		throw new HoldError(exits.usage, "either --credentials, which is closed to all others, or --os-user");
}

/** @throws HoldError `usage` */
export function wholeNumber(option, text, min, max) {
	const number = /^\d{1,9}$/.test(text) ? Number(text) : Number.NaN;
	if (!(number >= min && number <= max))
		throw new HoldError(exits.usage, `${option} needs a whole number from ${min} to ${max}`);
	return number;
}

/** @throws HoldError `usage` */
export function absolutePath(option, path) {
	if (path !== undefined && !path.startsWith("/")) throw new HoldError(exits.usage, `${option}: not an absolute path`);
	return path;
}

/** Where the client lies; without a folder it is looked up in PATH. */
export function clientProgram(folder, program) {
	return folder === undefined ? program : join(folder, program);
}

/** The name only: what stands behind it may be a password in the wrong place. */
function unknownOption({ code, message }) {
	if (code !== "ERR_PARSE_ARGS_UNKNOWN_OPTION") return message;
	return `unknown option ${/'(-[^'=]*)/.exec(message)?.[1] ?? ""}`;
}

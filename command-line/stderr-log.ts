import type { CommandContext } from "./command-context.ts";

type Write = (message: string, fields?: Record<string, unknown>) => void;

/** The log of a program in the foreground: one line each on stderr, `debug` left out. */
export function stderrLog(context: CommandContext): Record<"debug" | "info" | "warn" | "error", Write> {
	const at =
		(level: string): Write =>
		(message, fields) => {
			const facts = Object.entries(fields ?? {}).map(([key, value]) => ` ${key}=${JSON.stringify(value)}`);
			context.stderr(`${new Date().toISOString()} ${level} ${message}${facts.join("")}\n`);
		};
	return { debug: () => {}, info: at("info"), warn: at("warn"), error: at("error") };
}

const secretKey = /token|secret|password|private|authorization/i;

export type LogLine = {
	readonly level: string;
	readonly message: unknown;
	readonly part?: unknown;
	readonly [key: string]: unknown;
};

/** One line for an admin: time, level, part, message, then fields as key=value. Control characters never get through. */
export function formatLogLine(line: LogLine, now: Date): string {
	const { level, message, part, ...fields } = line;
	const shown = Object.entries(fields).map(
		([key, value]) => ` ${key}=${secretKey.test(key) ? "(hidden)" : show(value)}`,
	);
	const where = part === undefined ? "" : ` [${String(part)}]`;
	return `${clean(`${now.toISOString()} ${level.padEnd(5)}${where} ${String(message)}${shown.join("")}`)}\n`;
}

function show(value: unknown): string {
	if (value instanceof Error) return JSON.stringify(value.message);
	if (typeof value === "string") return /^[\w./:@+-]+$/.test(value) ? value : JSON.stringify(value);
	try {
		return JSON.stringify(value) ?? "undefined";
	} catch {
		return "(cannot be shown)";
	}
}

function clean(text: string): string {
	// biome-ignore lint/suspicious/noControlCharactersInRegex: a script's output must not drive an admin's terminal
	return text.slice(0, 8_192).replace(/[\u0000-\u001f\u007f-\u009f]/g, " ");
}

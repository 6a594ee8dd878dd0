/**
 * Files as Python's configparser reads them, which Azure's extension uses: `key = value` or `key: value` in sections,
 * lines that begin with `#` or `;` are comments, a line that is indented more than its key goes on with the value, keys
 * are the same in small and capital letters, `%%` is one percent sign.
 */
import { StillpointError } from "../../../../contracts/errors.ts";

/** Section, then key in small letters. */
export type Ini = ReadonlyMap<string, ReadonlyMap<string, string>>;

/** @throws `script-config-invalid` naming file and line, and never a value of it */
export function parseIni(text: string, path: string): Ini {
	const sections = new Map<string, Map<string, string>>();
	let section: Map<string, string> | undefined;
	let last: string | undefined;
	let indentation = 0;
	for (const [index, raw] of text.split(/\r?\n/).entries()) {
		const line = raw.trim();
		const fault = (what: string) => new StillpointError("script-config-invalid", `${path}:${index + 1}: ${what}`);
		if (line === "" || line.startsWith("#") || line.startsWith(";")) continue;
		const head = /^\[([^\]]+)\]/.exec(line)?.[1];
		const indented = raw.length - raw.trimStart().length;
		if (indented > indentation && section !== undefined && last !== undefined) {
			section.set(last, `${section.get(last) ?? ""}\n${unescapePercent(line)}`.trim());
			continue;
		}
		indentation = indented;
		if (head !== undefined) {
			if (sections.has(head)) throw fault(`the section [${head}] stands twice`);
			section = new Map();
			sections.set(head, section);
			last = undefined;
		} else {
			const [, key, value = ""] = /^([^=:]*[^=:\s])\s*[=:]\s*(.*)$/.exec(line) ?? [];
			if (key === undefined) throw fault("this is neither a section nor a key with its value");
			if (section === undefined) throw fault("a key stands before the first section");
			last = key.toLowerCase();
			if (section.has(last)) throw fault(`the key ${key} stands twice`);
			section.set(last, unescapePercent(value));
		}
	}
	return sections;
}

function unescapePercent(value: string): string {
	return value.replaceAll("%%", "%");
}

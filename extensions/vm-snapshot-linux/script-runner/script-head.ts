import { StillpointError } from "../../../contracts/errors.ts";

/** How a file is run, by its first bytes. */
export type ScriptHead =
	| { readonly kind: "text"; readonly interpreter: string; readonly argument?: string }
	| { readonly kind: "binary" };

/** What the kernel looks at (BINPRM_BUF_SIZE). */
export const headBytes = 256;

/**
 * As the kernel reads a first line `#! INTERPRETER [ARGUMENT]`: all behind the interpreter is one argument. A text
 * without such a line is the shell's. @throws `script-failed`: what the kernel, or nobody, would understand.
 */
export function parseScriptHead(head: Buffer, path: string): ScriptHead {
	const fail = (what: string) => new StillpointError("script-failed", `${path} ${what}`, { details: { path } });
	if (head.length === 0) throw fail("is empty: it would do nothing and end well; write it, or take it out");
	if (head.subarray(0, 3).equals(Buffer.from([0xef, 0xbb, 0xbf]))) {
		throw fail("begins with a byte order mark, before its first line: save it as UTF-8 without one");
	}
	const end = head.indexOf("\n");
	const line = head.subarray(0, end < 0 ? head.length : end).toString("latin1");
	if (!line.startsWith("#!")) {
		return head.includes(0) ? { kind: "binary" } : { kind: "text", interpreter: "/bin/sh" };
	}
	if (line.endsWith("\r")) {
		throw fail("has the line ends of Windows, so that its interpreter is not found: convert it (sed -i 's/\\r$//')");
	}
	if (end < 0 && head.length >= headBytes) throw fail(`has a first line that is longer than ${headBytes} bytes`);
	const [, interpreter, argument] = /^#![ \t]*([^ \t]*)[ \t]*(.*?)[ \t]*$/.exec(line) ?? [];
	if (!interpreter?.startsWith("/")) {
		throw fail("has a first line #! without the absolute path of an interpreter: write one, such as #!/bin/sh");
	}
	return { kind: "text", interpreter, ...(argument ? { argument } : {}) };
}

import { describe, expect, test } from "vitest";
import { findScriptArgument } from "../../extensions/vm-snapshot-linux/script-runner/script-argument.ts";
import { headBytes, parseScriptHead } from "../../extensions/vm-snapshot-linux/script-runner/script-head.ts";

const parse = (text: string | Buffer) => parseScriptHead(Buffer.from(text as string), "/x/stop.sh");

describe("the first line of a script", () => {
	test.each([
		["nothing at all", "", "is empty"],
		["an interpreter with the line end of Windows", "#!/bin/sh\r\necho\r\n", "line ends of Windows"],
		["an argument with the line end of Windows", "#!/usr/bin/env node\r\n", "sed -i 's/\\r$//'"],
		["a byte order mark", Buffer.from("\ufeff#!/bin/sh\n"), "byte order mark"],
		["no interpreter", "#!\necho", "absolute path of an interpreter"],
		["blanks for an interpreter", "#! \t \necho", "absolute path of an interpreter"],
		["a relative interpreter", "#!sh\n", "absolute path of an interpreter"],
		["no end", `#!/${"a".repeat(headBytes)}`, "longer than 256 bytes"],
	])("%s is refused, with what to do", (_what, text, message) => {
		expect(() => parse(text)).toThrow(expect.objectContaining({ code: "script-failed" }));
		expect(() => parse(text)).toThrow(message);
		expect(() => parse(text)).toThrow("/x/stop.sh");
	});

	test.each([
		["#!/bin/sh\n", { interpreter: "/bin/sh" }],
		["#!/bin/sh", { interpreter: "/bin/sh" }],
		["#! \t/bin/sh \t-e -u \n", { interpreter: "/bin/sh", argument: "-e -u" }],
		["#!/usr/bin/env -S node --x\n", { interpreter: "/usr/bin/env", argument: "-S node --x" }],
		["echo quiet\n", { interpreter: "/bin/sh" }],
		["echo quiet\r\n", { interpreter: "/bin/sh" }],
	])("%j is read as the kernel reads it", (text, is) => {
		expect(parse(text)).toEqual({ kind: "text", ...is });
	});

	test("what is no text is run as a program", () => {
		expect(parse("\x7fELF\x02\x01\x01\0\0")).toEqual({ kind: "binary" });
	});
});

describe("what an interpreter in a command is told to run", () => {
	test.each([
		[["/bin/sh", "-e", "/x/a.sh", "/data"], { index: 2 }],
		[["/usr/bin/env", "A=1", "node", "/x/a.mjs"], { index: 3 }],
		[["/usr/bin/python3.11", "/x/a.py"], { index: 1 }],
		[["/bin/bash", "-ec", "/x/a.sh freeze", "/data"], { word: "/x/a.sh" }],
		[["/bin/sh", "-c", "echo /x"], undefined],
		[["/usr/bin/perl", "-e", "/x/"], undefined],
		[["/usr/bin/perl", "-T", "/x/a.pl"], { index: 2 }],
		[["/usr/bin/python3", "-E", "/x/a.py"], { index: 2 }],
		[["/usr/bin/node", "-r", "module", "/x/a.mjs"], { index: 3 }],
		[["/usr/bin/node", "--eval", "1", "/data"], undefined],
		[["/usr/bin/mysql", "/x/a.sql"], undefined],
		[["/bin/sh", "relative.sh"], undefined],
	])("%j", (command, is) => {
		expect(findScriptArgument(command)).toEqual(is);
	});
});

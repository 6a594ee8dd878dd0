import { execFileSync } from "node:child_process";
import { chmodSync, copyFileSync, mkdirSync, readdirSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Applications } from "../../extensions/vm-snapshot-linux/script-runner/applications.ts";
import { checkTrust } from "../../extensions/vm-snapshot-linux/script-runner/prepare-applications.ts";
import { runScript } from "../../extensions/vm-snapshot-linux/script-runner/run-script.ts";
import type { RunnableStep } from "../../extensions/vm-snapshot-linux/script-runner/script-step.ts";
import { findScriptUser, type ScriptUser } from "../../extensions/vm-snapshot-linux/script-runner/script-user.ts";
import { startSessionScript } from "../../extensions/vm-snapshot-linux/script-runner/session-script.ts";
import { openUndoList } from "../../extensions/vm-snapshot-linux/script-runner/undo-list.ts";
import { requireTools } from "../fixtures/required-tools.ts";
import {
	dropInScripts,
	makeScriptFolder,
	type ScriptFolder,
	scriptContext,
	scriptJob,
	scriptStep,
} from "../fixtures/script-bench.ts";

const lacking = requireTools("root", "setpriv", "python3");

describe.skipIf(lacking)(`a script that runs as a user${lacking ? ` (${lacking})` : ""}`, () => {
	let folder: ScriptFolder;
	let nobody: ScriptUser;
	beforeAll(async () => {
		folder = makeScriptFolder();
		chmodSync(join(folder.path, ".."), 0o755);
		// With a group more than its own, so that it is seen whether that is handed on.
		nobody = { ...(await findScriptUser("nobody")), groups: [65534, 4321] };
	});
	afterAll(() => folder[Symbol.dispose]());

	const context = () => scriptContext({ checkTrust, runFolder: folder.runFolder });
	const run = (command: readonly string[], changes: Partial<RunnableStep> = {}) =>
		runScript(scriptStep(command, { user: nobody, ...changes }), context());
	const leftCopies = () => readdirSync(join(folder.runFolder, "scripts"));

	test("has its user, its groups and its home, and the same input", async () => {
		const text = '#!/bin/sh\nread -r input\necho "$(id -u) $(id -g) $(id -G) $HOME $USER $LOGNAME"\necho "$input"\n';
		const report = await run([folder.write("who", text)]);
		const [who, input] = report.outputTail.split("\n");
		expect(who).toBe("65534 65534 65534 4321 /nonexistent nobody nobody");
		expect(JSON.parse(input ?? "")).toMatchObject({ schemaVersion: 1, jobId: "job-1", phase: "pre" });
	});

	test("has all groups that the machine says, also from the whole job", async () => {
		const name = execFileSync("getent", ["passwd"], { encoding: "utf8" })
			.split("\n")
			.map((line) => line.split(":")[0] ?? "")
			.find((one) => one !== "" && execFileSync("id", ["-G", one], { encoding: "utf8" }).includes(" "));
		const runAs = name ?? "nobody";
		const user = await findScriptUser(runAs);
		const report = await run([folder.write("groups", "#!/bin/sh\nid -G\n")], { user });
		expect(report.outputTail.trim().split(" ").sort()).toEqual(user.groups.map(String).sort());
		expect(report.outputTail.trim()).toBe(execFileSync("id", ["-G", runAs], { encoding: "utf8" }).trim());
	});

	test("may be root's own uid", async () => {
		const user = await findScriptUser("root");
		expect((await run([folder.write("root", "#!/bin/sh\nid -u\n", 0o700)], { user })).outputTail).toBe("0\n");
	});

	test("that does not exist fails the job before anything starts, and one that may fail only itself", async () => {
		const mark = (name: string) => [folder.write(name, `#!/bin/sh\necho > ${join(folder.path, `${name}.ran`)}\n`)];
		const applications = (onFailure: string) => {
			const first = { application: "first", order: 1, pre: { command: mark(`first-${onFailure}`) } };
			const second = { application: "second", onFailure, runAs: "no-such-user", pre: { command: mark("never") } };
			const all = [first, second].map((one) => dropInScripts(one.application, one));
			return new Applications(all, context(), openUndoList(folder.runFolder, scriptJob));
		};
		await expect(applications("fail").quiet(AbortSignal.timeout(30_000))).rejects.toMatchObject({
			code: "script-config-invalid",
			message: expect.stringMatching(/^second: runAs: there is no user no-such-user/),
		});
		expect(folder.read("first-fail.ran")).toBeUndefined();
		const lenient = applications("continue");
		await lenient.quiet(AbortSignal.timeout(30_000));
		await lenient.resume("snapshot");
		expect(folder.read("first-continue.ran")).toBeDefined();
		expect(lenient.evidence().map(({ proved }) => proved)).toEqual([true, false]);
		expect(lenient.reports[1]?.error?.code).toBe("script-config-invalid");
		expect(folder.read("never.ran")).toBeUndefined();
	});

	describe.each(["sh", "python3", "node"])("in %s that only root may read", (language) => {
		const texts: Readonly<Record<string, string>> = {
			sh: '#!/bin/sh\nid -u\ncat "$0" > /dev/null && ls -ln "$0"\n[ -w "$0" ] && echo writable\nls -ld /proc/self/fd/100/..\n',
			python3: "#!/usr/bin/python3 -B\nimport os\nprint(os.getuid())\n",
			node: '#!/usr/bin/env node\nimport { basename } from "node:path";\nconsole.log(process.getuid());\n',
		};

		test("is a copy for its group, that nobody else comes to, and is gone afterwards", async () => {
			const name = language === "node" ? "private.mjs" : `private-${language}`;
			const report = await run([folder.write(name, texts[language] ?? "", 0o700)], { ownerOnly: true });
			expect(report.error).toBeUndefined();
			const [uid, listed] = report.outputTail.split("\n");
			expect(uid).toBe("65534");
			if (language === "sh") expect(listed).toMatch(/^-r-xr-x--- 1 0 65534 /);
			expect(report.outputTail).not.toContain("writable");
			expect(leftCopies()).toEqual([]);
		});
	});

	test("sees nothing of other copies, and can change none", async () => {
		const text = `#!/bin/sh\nread -r input\nls ${folder.runFolder} 2>&1\ntouch "$(dirname "$0")/mine" 2>&1\nrm -f "$0" 2>&1\necho ready\nread -r word\necho held\n`;
		const step = scriptStep([folder.write("session", text, 0o700)], { user: nobody, phase: "session" });
		const session = await startSessionScript(step, context());
		expect(session.failure).toBeUndefined();
		expect(leftCopies()).toEqual([`${step.mark}.session`]);
		const report = await session.release("snapshot");
		expect(report.outputTail.match(/Permission denied/g)?.length).toBe(3);
		expect(report).toMatchObject({ held: true });
		expect(leftCopies()).toEqual([]);
	});

	test("that the user may read runs where it lies, with its neighbours", async () => {
		folder.write("words.mjs", "export const word = process.getuid();\n");
		const text = '#!/usr/bin/env node\nimport { word } from "./words.mjs";\nconsole.log(word, import.meta.filename);\n';
		const script = folder.write("public.mjs", text);
		expect((await run([script])).outputTail).toBe(`65534 ${script}\n`);
	});

	test("as a program that is no text is run in place, when the user may", async () => {
		copyFileSync("/usr/bin/id", join(folder.path, "my-id"));
		chmodSync(join(folder.path, "my-id"), 0o700);
		const report = await run([join(folder.path, "my-id"), "-u"]);
		expect(report.error).toMatchObject({ code: "script-failed", message: expect.stringContaining("user nobody") });
		chmodSync(join(folder.path, "my-id"), 0o755);
		expect((await run([join(folder.path, "my-id"), "-u"])).outputTail).toBe("65534\n");
		chmodSync(join(folder.path, "my-id"), 0o4755);
		expect((await run([join(folder.path, "my-id"), "-u"])).error?.message).toContain("set-user-ID bit");
	});

	test("lists no folder that its user may not list", async () => {
		mkdirSync(join(folder.path, "unlisted"), { mode: 0o711 });
		folder.write("unlisted/secret-name", "");
		const text =
			"import os\nfor one in 100, '/proc/self/fd/100/':\n\ttry: print(os.listdir(one))\n\texcept OSError: print('no')\n";
		const script = folder.write("unlisted/a.py", `#!/usr/bin/python3 -B\n${text}`);
		expect((await run([script])).outputTail).toBe("no\nno\n");
	});

	test("behind a folder that the user may not enter is a copy, too", async () => {
		mkdirSync(join(folder.path, "closed"), { mode: 0o700 });
		folder.write("closed/a.sh", '#!/bin/sh\nid -u\necho "$STILLPOINT_SCRIPT"\n');
		symlinkSync("closed/a.sh", join(folder.path, "a.sh"));
		const report = await run([join(folder.path, "a.sh")]);
		expect(report.outputTail).toBe(`65534\n${join(folder.path, "closed/a.sh")}\n`);
	});

	test("is ended at its deadline wherever it went", async () => {
		const text =
			"#!/bin/sh\ntrap '' TERM\nsetsid sh -c 'trap \"\" TERM; while :; do sleep 0.1; done' &\nwait\nsleep 60\n";
		const report = await run([folder.write("stays", text)], { deadlineMs: 300 });
		expect(report).toMatchObject({ timedOut: true, error: { code: "script-timeout" } });
	});
});

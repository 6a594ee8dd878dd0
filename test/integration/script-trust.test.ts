import { execFileSync } from "node:child_process";
import { chmodSync, copyFileSync, mkdirSync, renameSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { dirname, join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { checkTrust } from "../../extensions/vm-snapshot-linux/script-runner/prepare-applications.ts";
import { runScript } from "../../extensions/vm-snapshot-linux/script-runner/run-script.ts";
import type { RunnableStep } from "../../extensions/vm-snapshot-linux/script-runner/script-step.ts";
import { startSessionScript } from "../../extensions/vm-snapshot-linux/script-runner/session-script.ts";
import { poll } from "../fixtures/poll.ts";
import { requireTools } from "../fixtures/required-tools.ts";
import { makeScriptFolder, type ScriptFolder, scriptContext, scriptStep } from "../fixtures/script-bench.ts";

const lacking = requireTools("root", "bash", "python3", "mount");

describe.skipIf(lacking)(`what a script is and who could change it${lacking ? ` (${lacking})` : ""}`, () => {
	let folder: ScriptFolder;
	beforeAll(() => {
		folder = makeScriptFolder();
	});
	afterAll(() => folder[Symbol.dispose]());

	const context = () => scriptContext({ checkTrust, runFolder: folder.runFolder });
	const run = (command: readonly string[], changes: Partial<RunnableStep> = {}) =>
		runScript(scriptStep(command, changes), context());
	const made = (name: string, text: string, mode?: number) => folder.write(name, text, mode);
	const path = (name: string) => join(folder.path, name);
	/** Were it run, it would leave a file. */
	const marks = (name: string) => `#!/bin/sh\necho > ${path(`${name}.ran`)}\n`;

	test.concurrent.each<[string, string, (name: string) => void, Partial<RunnableStep>?]>([
		["does-not-exist", "does not exist: install it", () => undefined],
		["empty", "is empty", (name) => made(name, "")],
		["not-executable", "chmod u+x", (name) => made(name, marks(name), 0o644)],
		["a-folder", "is a folder", (name) => mkdirSync(path(name))],
		["a-pipe", "is a named pipe", (name) => execFileSync("mkfifo", [path(name)])],
		["a-device", "is a device", (name) => execFileSync("mknod", [path(name), "c", "1", "3"])],
		["a-dangling-link", "is a link that leads to nothing", (name) => symlinkSync(path("gone"), path(name))],
		[
			"a-circle",
			"circle of links",
			(name) => {
				symlinkSync(path(name), path("other-half"));
				symlinkSync(path("other-half"), path(name));
			},
		],
		["no-interpreter", "names /usr/bin/none, which does not exist", (name) => made(name, "#!/usr/bin/none\n")],
		["a-folder-for-interpreter", "names /usr, which is no program", (name) => made(name, "#!/usr\n")],
		["windows", "line ends of Windows", (name) => made(name, "#!/bin/sh\r\nexit 0\r\n")],
		["set-user-id", "set-user-ID bit", (name) => chmodSync(made(name, marks(name)), 0o4755)],
		["set-group-id", "set-group-ID bit", (name) => chmodSync(made(name, marks(name)), 0o2755)],
	])("%s is refused: %s", async (name, message, make, changes) => {
		make(name);
		const report = await run([path(name)], changes);
		expect(report.error).toMatchObject({ code: "script-failed", message: expect.stringContaining(message) });
		expect(report.error?.message).toContain(path(name));
		expect(report.exitCode).toBeUndefined();
		expect(folder.read(`${name}.ran`)).toBeUndefined();
	});

	test("a socket is no script", async () => {
		const server = createServer().listen(path("socket"));
		await new Promise((resolve) => server.on("listening", resolve));
		expect((await run([path("socket")])).error?.message).toContain("is a socket");
		server.close();
	});

	test.concurrent.each<[string, (name: string) => string | undefined]>([
		["writable-by-group", (name) => void chmodSync(made(name, marks(name)), 0o775)],
		["writable-by-all", (name) => void chmodSync(made(name, marks(name)), 0o757)],
		["of-another", (name) => void execFileSync("chown", ["65534", made(name, marks(name))])],
		[
			"behind-a-link",
			(name) => {
				mkdirSync(path("open-folder"));
				chmodSync(path("open-folder"), 0o777);
				writeFileSync(path(`open-folder/${name}`), marks(name), { mode: 0o755 });
				symlinkSync(`open-folder/${name}`, path(name));
				return path("open-folder");
			},
		],
		[
			"with-an-interpreter-of-another",
			(name) => {
				made(name, `#!${path("my-sh")}\necho > ${path(`${name}.ran`)}\n`);
				copyFileSync("/bin/sh", path("my-sh"));
				execFileSync("chown", ["65534", path("my-sh")]);
				return path("my-sh");
			},
		],
	])("one that is %s is not run", async (name, make) => {
		const named = make(name) ?? path(name);
		for (const command of [[path(name)], ["/bin/sh", path(name)], ["/bin/sh", "-c", `${path(name)} now`]]) {
			if (command.length > 1 && name === "with-an-interpreter-of-another") continue;
			const report = await run(command, { retries: 3 });
			expect(report.error).toMatchObject({ code: "script-untrusted", message: expect.stringContaining(named) });
			expect(report.attempts).toBeUndefined();
		}
		expect(folder.read(`${name}.ran`)).toBeUndefined();
	});

	test("one that only its owner may see is run only when nobody else has any access", async () => {
		const script = made("owner-only", "#!/bin/sh\nexit 0\n", 0o750);
		const report = await run([script], { ownerOnly: true });
		expect(report.error?.code).toBe("script-untrusted");
		expect(report.error?.message).toContain("mode 0750");
		expect(report.error?.message).toContain(`chmod 700 ${script}`);
		chmodSync(script, 0o700);
		expect((await run([script], { ownerOnly: true })).error).toBeUndefined();
		expect((await run([script])).error).toBeUndefined();
	});

	test("one on a mount with noexec is refused as a program, and run by the interpreter of its command", async () => {
		mkdirSync(path("noexec"));
		execFileSync("mount", ["-t", "tmpfs", "-o", "noexec,mode=0755", "tmpfs", path("noexec")]);
		try {
			const script = made("noexec/a.sh", "#!/bin/sh\necho ran\n");
			expect((await run([script])).error?.message).toContain("lies on a mount with noexec");
			expect((await run(["/bin/sh", script])).outputTail).toBe("ran\n");
		} finally {
			execFileSync("umount", [path("noexec")]);
		}
	});

	test.each<[string, number, (script: string) => void]>([
		["opened to all", 1, (script) => chmodSync(script, 0o777)],
		["in a folder that is given to another", 1, (script) => execFileSync("chown", ["65534", dirname(script)])],
		["replaced", 2, (script) => renameSync(made("new-one", marks("swapped")), script)],
	])("one that is %s between a check and its opening is not run", async (what, after, change) => {
		for (const before of [[], ["/bin/sh"]]) {
			const name = `${what.replaceAll(" ", "-")}-${before.length}`;
			mkdirSync(path(name));
			const script = made(`${name}/a.sh`, marks("swapped"));
			let checks = 0;
			const changesThen = async (checked: string) => {
				await checkTrust(checked);
				if (checked === script && ++checks === after) change(script);
			};
			const step = scriptStep([...before, script]);
			const report = await runScript(step, { ...context(), checkTrust: changesThen });
			expect(report.error).toMatchObject({ code: "script-untrusted" });
			expect(checks).toBeGreaterThanOrEqual(after);
		}
		expect(folder.read("swapped.ran")).toBeUndefined();
	});

	describe("finds itself and its neighbours", () => {
		const ways: [string, string][] = [
			["sh", '#!/bin/sh\n. "$(dirname "$0")/words"\n"$(dirname "$0")/neighbour" "$word" "$(basename "$0")" "$1"\n'],
			[
				"bash",
				'#!/bin/bash\n. "$(dirname "$BASH_SOURCE")/words"\n"$(dirname "$0")/neighbour" "$word" "$(basename "$0")" "$1"\n',
			],
			[
				"main",
				'#!/bin/bash\nmain() { "$(dirname "$0")/neighbour" there "$(basename "$0")" "$1"; }\n[ "$BASH_SOURCE" = "$0" ] && main "$@"\n',
			],
			["none", '"$(dirname "$0")/neighbour" there "$(basename "$0")" "$1"\n'],
			[
				"python",
				"#!/usr/bin/env -S python3 -B\nimport os, subprocess, sys\nfrom words_python import word\n" +
					"here = os.path.dirname(os.path.realpath(__file__))\n" +
					"subprocess.run([here + '/neighbour', word, os.path.basename(sys.argv[0]), sys.argv[1]])\n",
			],
			[
				"perl",
				'#!/usr/bin/perl -w\nuse File::Basename;\nsystem(dirname($0) . "/neighbour", "there", basename($0), $ARGV[0]);\n',
			],
			[
				"node.mjs",
				'#!/usr/bin/env node\nimport { execFileSync } from "node:child_process";\nimport { word } from "./words.mjs";\n' +
					'import { basename } from "node:path";\nconst words = [word, basename(process.argv[1]), process.argv[2]];\n' +
					'execFileSync(import.meta.dirname + "/neighbour", words, { stdio: "inherit" });\n',
			],
		];

		beforeAll(() => {
			made("neighbour", '#!/bin/sh\necho "neighbour of $*"\n');
			made("words", "word=there\n");
			made("words.mjs", 'export const word = "there";\n');
			made("words_python.py", 'word = "there"\n');
		});

		test.concurrent.each(ways)("in %s", async (name, text) => {
			const report = await run([made(name, text), "an argument"]);
			expect(report).toMatchObject({ exitCode: 0, outputTail: `neighbour of there ${name} an argument\n` });
		});

		test("given to an interpreter, and behind a link", async () => {
			const script = made("given.sh", `#!/bin/sh\n${ways[3]?.[1] ?? ""}`);
			symlinkSync("given.sh", path("link.sh"));
			const expected = "neighbour of there given.sh an argument\n";
			expect((await run(["/bin/sh", "-e", script, "an argument"])).outputTail).toBe(expected);
			expect((await run([path("link.sh"), "an argument"])).outputTail).toBe(expected);
		});

		test("a program that is no text knows the name that it was called by", async () => {
			expect((await run(["/bin/cat", "/proc/self/cmdline"])).outputTail).toContain("/bin/cat\0");
			expect((await run(["/usr/bin/false"])).error?.code).toBe("script-failed");
		});

		test("and is told its real path", async () => {
			const script = made("told.sh", '#!/bin/sh\necho "$STILLPOINT_SCRIPT"\n');
			symlinkSync("told.sh", path("told-link.sh"));
			expect((await run([path("told-link.sh")])).outputTail).toBe(`${script}\n`);
		});
	});

	describe("that is replaced while it runs counts for nothing", () => {
		const waits = (name: string) =>
			`#!/bin/sh\necho > ${path(`${name}.runs`)}\nwhile [ -e ${path(`${name}.runs`)} ]; do sleep 0.02; done\n`;
		const ways: [string, (name: string) => void][] = [
			["by a rename", (name) => renameSync(made("new", "#!/bin/sh\nexit 0\n"), path(name))],
			[
				"and back",
				(name) => {
					renameSync(path(name), path(`${name}.old`));
					renameSync(path(`${name}.old`), path(name));
				},
			],
			["in place", (name) => writeFileSync(path(name), "#!/bin/sh\nexit 0\n")],
			["by removal", (name) => rmSync(path(name))],
			["by another mode", (name) => chmodSync(path(name), 0o775)],
		];

		test.each(ways)("%s", async (how, change) => {
			const name = `replaced-${how.replaceAll(" ", "-")}`;
			const running = run([made(name, waits(name))], { retries: 2 });
			await poll(() => folder.read(`${name}.runs`)).toBeDefined();
			change(name);
			rmSync(path(`${name}.runs`));
			const report = await running;
			expect(report).toMatchObject({ exitCode: 0, attempts: 1, error: { code: "script-untrusted" } });
			expect(report.error?.message).toContain(path(name));
		});

		test("and one that is left alone counts", async () => {
			const running = run([made("alone", waits("alone"))]);
			await poll(() => folder.read("alone.runs")).toBeDefined();
			rmSync(path("alone.runs"));
			expect((await running).error).toBeUndefined();
		});

		test("a session, before it is ready and afterwards", async () => {
			const text = `#!/bin/sh\nread -r input\nmv ${path("early")} ${path("early-2")}; cp ${path("early-2")} ${path("early")}\necho ready\nread -r word\necho held\n`;
			const early = await startSessionScript(scriptStep([made("early", text)], { phase: "session" }), context());
			expect(early.failure).toMatchObject({ code: "script-untrusted" });
			expect(await early.release("snapshot")).toMatchObject({ held: false, error: { code: "script-untrusted" } });
			const holds = made("late", "#!/bin/sh\nread -r input\necho ready\nread -r word\necho held\n");
			const late = await startSessionScript(scriptStep([holds], { phase: "session" }), context());
			expect(late.failure).toBeUndefined();
			writeFileSync(holds, "#!/bin/sh\n");
			expect(await late.release("snapshot")).toMatchObject({
				held: false,
				exitCode: 0,
				error: { code: "script-untrusted" },
			});
		});
	});
});

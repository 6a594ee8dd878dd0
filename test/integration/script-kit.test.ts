/** What the shipped session scripts are made of, tried by clients, files and askers that do all the wrong things. */
import { execFileSync } from "node:child_process";
import { chmod, chown, link, mkdir, mkdtemp, rm, symlink, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type HoldScript, startHoldScript } from "../fixtures/hold-script.ts";
import { poll } from "../fixtures/poll.ts";
import { processTree } from "../fixtures/process-states.ts";
import { requireTools } from "../fixtures/required-tools.ts";

const kit = join(import.meta.dirname, "../../scripts/kit");
const program = join(import.meta.dirname, "../fixtures/scripts/kit-hold.mjs");
const { commandAs } = await import(`${kit}/command-as.mjs`);
const { ClientProcess } = await import(`${kit}/client-process.mjs`);
const { readCredentialsFile } = await import(`${kit}/credentials-file.mjs`);
const { requireCovered, readSuperblock } = await import(`${kit}/covered-folders.mjs`);
const job = { jobId: "job-1", fileSystems: [] };

describe.concurrent("a session", () => {
	const start = (args: Record<string, string>, input: object | undefined = job) =>
		startHoldScript(program, ["--kit", kit, ...Object.entries(args).map(([key, value]) => `--${key}=${value}`)], {
			...(input === undefined ? {} : { input }),
		});
	const steps = (hold: HoldScript) => [...hold.output().matchAll(/^step (.*)$/gm)].map(([, step]) => step);

	test("holds, proves, lets go", async () => {
		await using hold = start({});
		expect(await hold.line()).toBe("ready");
		expect(await hold.release()).toBe("held");
		expect(await hold.ended).toBe(0);
		expect(steps(hold)).toEqual(["take job-1", "taken", "prove", "let go"]);
	});

	test.each([
		["says no", { prove: "says-no" }, "lost it moved meanwhile"],
		["fails", { prove: "fails" }, "lost it failed half-way"],
		["breaks", { prove: "breaks" }, "lost broken"],
	])("whose proof %s is lost, and lets go", async (_what, args, line) => {
		await using hold = start(args);
		expect(await hold.line()).toBe("ready");
		expect(await hold.release()).toBe(line);
		expect(await hold.ended).toBe(1);
		expect(steps(hold).at(-1)).toBe("let go");
	});

	test("that is lost meanwhile says so at once, unasked", async () => {
		await using hold = start({ lost: "the server ended" });
		expect(await hold.line()).toBe("ready");
		expect(await hold.line()).toBe("lost the server ended");
		expect(await hold.ended).toBe(1);
		expect(steps(hold).at(-1)).toBe("let go");
	});

	test.each([
		["fails half-way", "fails", 75, "kit-hold: it failed half-way\n"],
		["breaks", "breaks", 70, "kit-hold: broken\n"],
	])("whose take %s lets go, and was never ready", async (_what, take, status, words) => {
		await using hold = start({ take });
		expect(await hold.line()).toBeUndefined();
		expect(await hold.ended).toBe(status);
		expect(steps(hold)).toEqual(["take job-1", "let go"]);
		expect(hold.output()).toContain(words);
	});

	test("whose letting go fails says so, in its exit status, too", async () => {
		await using hold = start({ "let-go": "fails" });
		expect(await hold.line()).toBe("ready");
		expect(await hold.release()).toBe("held");
		expect(await hold.ended).toBe(70);
		expect(hold.output()).toContain("could not let go: it failed half-way");
	});

	test.each(["end of stdin", "SIGTERM", "SIGINT", "SIGHUP"])("lets go on %s, also when nobody reads", async (how) => {
		await using hold = start({});
		expect(await hold.line()).toBe("ready");
		hold.process.stdout?.destroy();
		end(hold, how);
		expect(await hold.ended).toBe(0);
		expect(steps(hold)).toEqual(["take job-1", "taken", "let go"]);
	});

	test.each(["end of stdin", "SIGTERM"])("whose take hangs lets go on %s", async (how) => {
		// It keeps its own process busy for ever: a client would have ended with it.
		const hold = start({ take: "hangs" });
		await poll(() => steps(hold)).toEqual(["take job-1"]);
		end(hold, how);
		await poll(() => steps(hold)).toEqual(["take job-1", "let go", "let go"]);
		hold.process.kill("SIGKILL");
		await hold.ended;
	});

	test("lets go again of what its take got hold of after the end", async () => {
		await using hold = start({ take: "late" });
		await poll(() => steps(hold)).toEqual(["take job-1"]);
		hold.closeInput();
		expect(await hold.ended).toBe(0);
		expect(steps(hold)).toEqual(["take job-1", "let go", "taken", "let go"]);
	});

	test("run by hand goes on without facts; in a job it waits for them, and takes nothing without", async () => {
		await using byHand = startHoldScript(program, ["--kit", kit]);
		expect(await byHand.line()).toBe("ready");
		expect(steps(byHand)[0]).toBe("take by hand");
		const env = { STILLPOINT_PHASE: "session" };
		await using late = startHoldScript(program, ["--kit", kit], { env });
		await using none = startHoldScript(program, ["--kit", kit], { env });
		await new Promise((resolve) => setTimeout(resolve, 1_200));
		expect(steps(late)).toEqual([]);
		late.process.stdin?.write(`${JSON.stringify(job)}\n`);
		expect(await late.line()).toBe("ready");
		none.closeInput();
		expect(await none.ended).toBe(64);
		expect(steps(none)).toEqual(["let go"]);
	});

	test("whose first line is no JSON takes nothing", async () => {
		await using hold = startHoldScript(program, ["--kit", kit]);
		hold.process.stdin?.write("{half\n");
		expect(await hold.ended).toBe(64);
		expect(steps(hold)).toEqual(["let go"]);
	});

	test("tried out takes nothing, though its stdin ends behind the first line; SIGTERM ends it", async () => {
		const tried = startHoldScript(program, ["--kit", kit, "--dry-run"], { input: job });
		tried.closeInput();
		expect(await tried.ended).toBe(0);
		expect(steps(tried)).toEqual(["try job-1", "let go"]);
		const hanging = startHoldScript(program, ["--kit", kit, "--dry-run", "--take=hangs"], { input: job });
		await poll(() => steps(hanging)).toEqual(["try job-1"]);
		hanging.process.kill("SIGTERM");
		await poll(() => steps(hanging)).toEqual(["try job-1", "let go", "let go"]);
		hanging.process.kill("SIGKILL");
		await hanging.ended;
	});

	function end(hold: HoldScript, how: string): void {
		if (how === "end of stdin") hold.closeInput();
		else hold.process.kill(how as NodeJS.Signals);
	}
});

describe.concurrent("a client", () => {
	/** `ask` with a mark that the shell's script knows as $1. */
	function startClient(script: string) {
		const mark = `mark-${Math.random()}`;
		const client = new ClientProcess("/bin/sh", ["-c", script, "sh", mark]);
		return { client, mark, ask: (limitMs = 10_000) => client.ask("question\n", mark, limitMs) };
	}
	const read = "read -r line";

	test.each([
		["answers", `${read}; echo one; echo two; echo "$1"`, ["one", "two"]],
		["answers nothing", `${read}; echo "$1"`, []],
		[
			"prints the mark inside its answer",
			`${read}; echo "x$1"; echo "$1 y"; echo "$1"`,
			(mark: string) => [`x${mark}`, `${mark} y`],
		],
		["answers in pieces", `${read}; printf a; sleep 0.1; printf 'b\\n'; printf %s "$1"; sleep 0.1; echo`, ["ab"]],
		["splits a letter", `${read}; printf 'M\\303'; sleep 0.1; printf '\\274hle\\n'; echo "$1"`, ["Mühle"]],
		["prints before it is asked", `echo early; sleep 0.2; ${read}; echo "$1"`, []],
		["floods its stderr", `${read}; head -c 9999999 /dev/zero >&2; echo "$1"`, []],
	])("that %s is understood", async (_what, script, answer) => {
		const { client, mark, ask } = startClient(script);
		await new Promise((resolve) => setTimeout(resolve, 100));
		expect(await ask()).toEqual(typeof answer === "function" ? answer(mark) : answer);
		await client.close();
	});

	test.each([
		["ends without an answer", `${read}; echo half; echo 'no more' >&2; exit 3`, 69, "/bin/sh: no more"],
		["ends at once", "exit 3", 69, "/bin/sh: exit status 3"],
		["is killed", `${read}; kill -9 $$`, 69, "/bin/sh: ended by SIGKILL"],
		["says nothing", `${read}; exec sleep 60`, 75, "/bin/sh: no answer within 700 ms"],
		["closes its stdin and lives", "exec <&-; exec sleep 60", 75, "no answer within"],
		["ends no line", `${read}; printf %s "$1"; exec sleep 60`, 75, "no answer within"],
		["prints garbage", `${read}; head -c 99999 /dev/urandom; exec sleep 60`, 75, "no answer within"],
		[
			"prints 10 MB",
			`${read}; head -c 10000000 /dev/zero; echo; echo "$1"; exec sleep 60`,
			70,
			"larger than 1048576 bytes",
		],
	])("that %s fails the question and all after it", async (_what, script, exitCode, message) => {
		const { client, ask } = startClient(script);
		const limitMs = exitCode === 75 ? 700 : 20_000;
		const first = await ask(limitMs).catch((error: unknown) => error);
		expect(first).toMatchObject({ exitCode, message: expect.stringContaining(message) });
		await expect(ask(limitMs)).rejects.toMatchObject({ exitCode, message: expect.stringContaining(message) });
		await client.close();
		expect(client.isEnded).toBe(true);
	});

	test("whose answer came too late is not asked again: the next would be taken for the last", async () => {
		const { client, mark, ask } = startClient(
			`${read}; sleep 0.5; echo late; echo "$1"; ${read}; echo next; echo "$1"`,
		);
		await expect(ask(100)).rejects.toMatchObject({ exitCode: 75 });
		await expect(client.ask("question\n", mark, 5_000)).rejects.toMatchObject({ exitCode: 75 });
		await client.close();
	});

	test("that is missing, or may not be run, is told by its name", async () => {
		for (const [path, words] of [
			["/nonexistent/psql", "/nonexistent/psql is not installed"],
			["/etc/passwd", "EACCES"],
		] as const) {
			const client = new ClientProcess(path, []);
			await expect(client.ask("x\n", "mark", 5_000)).rejects.toMatchObject({
				exitCode: 69,
				message: expect.stringContaining(words),
			});
			await client.close();
		}
	});

	test("that does not leave is killed, and one that left a process with its output open is not waited for", async () => {
		const stubborn = startClient(`exec <&-; exec sleep 60`);
		await stubborn.client.close(100);
		expect(await stubborn.client.ended).toContain("SIGKILL");
		const parent = startClient(`sleep 5 & echo $! >&2; ${read}; exit 0`);
		await poll(() => parent.client.stderrTail()).toMatch(/^\d+$/);
		const left = Number(parent.client.stderrTail());
		await parent.client.close();
		expect(processTree(left)).toEqual([left]);
		process.kill(left);
	});

	test("has nothing of our environment", async () => {
		process.env["KIT_TEST_SECRET"] = "secret";
		const { client, ask } = startClient(`${read}; env; echo "$1"`);
		expect((await ask()).join("\n")).not.toContain("KIT_TEST_SECRET");
		delete process.env["KIT_TEST_SECRET"];
		await client.close();
	});
});

const noRoot = requireTools("root");
describe.skipIf(noRoot)(`another user's command${noRoot ? `: ${noRoot}` : ""}`, () => {
	test("runs in that user's group, which may have another name than the user, and in no group of ours", () => {
		const read = (...words: string[]) => execFileSync("id", words, { encoding: "utf8" });
		// nobody's is nogroup on some systems, as oracle's is oinstall.
		for (const user of ["nobody", "daemon"]) {
			const [program, args] = commandAs(user, "id", []);
			expect(execFileSync(program, args, { encoding: "utf8" })).toBe(read(user));
		}
	});

	test("of a user that there is not is refused by name", () => {
		expect(() => commandAs("no-such-user", "id", [])).toThrow(
			expect.objectContaining({ exitCode: 78, message: "no user no-such-user here" }),
		);
	});
});

describe.skipIf(noRoot)(`a credentials file${noRoot ? `: ${noRoot}` : ""}`, () => {
	let folder: string;
	let path: string;
	beforeAll(async () => {
		folder = await mkdtemp("/dev/shm/stillpoint-test-kit-");
		path = join(folder, "good");
		await writeFile(path, "password=secret\n", { mode: 0o600 });
	});
	afterAll(() => rm(folder, { recursive: true, force: true }));

	test("of root's own is read", () => {
		expect(readCredentialsFile(path)).toBe("password=secret\n");
	});

	test.each<[string, (bad: string) => unknown, string]>([
		["belongs to somebody else", (bad) => chown(bad, 1, 0), "belongs to uid 1: chown root"],
		["is readable by its group", (bad) => chmod(bad, 0o640), "is open to others (mode 640): chmod 600"],
		["is writable by all", (bad) => chmod(bad, 0o602), "is open to others (mode 602)"],
		["is larger than a file of secrets", (bad) => truncate(bad, 65 * 1024), "is larger than 65536 bytes"],
		["is a symbolic link", async (bad) => [await rm(bad), await symlink(path, bad)], "is a symbolic link"],
		["is a folder", async (bad) => [await rm(bad), await mkdir(bad)], "is no regular file"],
		["is a pipe", async (bad) => [await rm(bad), execFileSync("mkfifo", ["-m", "600", bad])], "is no regular file"],
		["does not exist", (bad) => rm(bad), "does not exist"],
	])("that %s is refused in words that help, without what is in it", async (_what, spoil, words) => {
		const bad = join(folder, "bad");
		await rm(bad, { recursive: true, force: true });
		await writeFile(bad, "password=secret\n", { mode: 0o600 });
		await spoil(bad);
		const refuse = () => readCredentialsFile(bad);
		expect(refuse).toThrow(words);
		expect(refuse).not.toThrow("secret");
		expect(refuse).toThrow(expect.objectContaining({ exitCode: 78 }));
	});

	test("with a second name is the same file", async () => {
		await link(path, join(folder, "twin"));
		expect(readCredentialsFile(join(folder, "twin"))).toBe("password=secret\n");
	});
});

describe("the folders of an application", () => {
	const superblock: string = readSuperblock("/dev/shm");

	test("are in the snapshot when their file system is, also by a link", async () => {
		const folder = await mkdtemp("/dev/shm/stillpoint-test-kit-");
		await symlink(folder, `${folder}-link`);
		const input = { fileSystems: [{ mountPoint: "/dev/shm", superblock }] };
		requireCovered(input, { data: folder, link: `${folder}-link` });
		await rm(`${folder}-link`);
		await rm(folder, { recursive: true });
	});

	test.each([
		["lies elsewhere", "/dev/shm", 78, "data (/dev/shm) is not in the snapshot, which holds /somewhere"],
		["is missing", "/nonexistent", 66, "data (/nonexistent) can't be looked at: ENOENT"],
	])("one that %s is named", (_what, path, exitCode, message) => {
		const input = { fileSystems: [{ mountPoint: "/somewhere", superblock: "0:0" }] };
		expect(() => requireCovered(input, { data: path })).toThrow(
			expect.objectContaining({ exitCode, message: expect.stringContaining(message) }),
		);
	});

	test("are not compared with anything when a person runs the script", () => {
		requireCovered(undefined, { data: "/nonexistent" });
	});
});

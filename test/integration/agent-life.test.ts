import {
	chmodSync,
	chownSync,
	existsSync,
	mkdirSync,
	readdirSync,
	readFileSync,
	rmSync,
	symlinkSync,
	truncateSync,
	writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { execa } from "execa";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { openJournal } from "../../agent/journal.ts";
import { type AgentFoldersFixture, makeAgentFolders, startAgent } from "../fixtures/agent-process.ts";
import { connectAsker } from "../fixtures/job-client.ts";
import { poll } from "../fixtures/poll.ts";
import { requireTools } from "../fixtures/required-tools.ts";

const missing = requireTools("root");

describe.skipIf(missing)(`the life of an agent${missing ? `: ${missing}` : ""}`, () => {
	let folders: AgentFoldersFixture;
	let stack: AsyncDisposableStack;

	beforeEach(() => {
		stack = new AsyncDisposableStack();
		folders = stack.use(makeAgentFolders());
	});
	afterEach(() => stack.disposeAsync());

	async function agent() {
		return stack.use(await startAgent(folders));
	}
	async function refusedWith(code: string, exit: number, word?: RegExp) {
		const { exitCode, output } = await (await agent()).exited;
		expect(output).toContain(`"code":"${code}"`);
		if (word !== undefined) expect(output).toMatch(word);
		expect(exitCode).toBe(exit);
	}
	function readJournal() {
		using journal = openJournal(join(folders.flags.stateDir, "journal.db"));
		return { jobs: journal.readJobs(100), outbox: journal.readOutbox() };
	}

	test("starts, is idle without a disk write, and ends with 0 on SIGTERM", async () => {
		const one = await agent();
		const written = () => /^write_bytes: (\d+)$/m.exec(readFileSync(`/proc/${one.pid}/io`, "utf8"))?.[1];
		await sleep(300);
		const before = written();
		await sleep(1_500);
		expect(written()).toBe(before);
		one.child.kill("SIGTERM");
		expect(await one.exited).toMatchObject({ exitCode: 0, signal: null });
		expect(existsSync(join(folders.flags.runDir, "agent.sock"))).toBe(false);
	});

	test("a second agent with the same run folder is refused, and the first goes on", async () => {
		const first = await agent();
		await refusedWith("already-running", 7);
		const one = stack.use(await connectAsker(first));
		expect((await one.client.call("agent.status", {})).pid).toBe(first.pid);
	});

	test("the lock of a killed agent is no lock", async () => {
		const first = await agent();
		first.child.kill("SIGKILL");
		await first.exited;
		const second = await agent();
		const one = stack.use(await connectAsker(second));
		expect((await one.client.call("agent.status", {})).pid).toBe(second.pid);
	});

	describe("SIGTERM", () => {
		for (const [mode, word] of Object.entries({
			"hangs-in-preparing.1": "preparing",
			"never-attaches.1": "planning",
			"good.prepared": "prepared",
			"hangs-in-scripts.1": "scripts",
			"good.frozen": "frozen",
			"slow-in-frozen.1": "frozen",
			"hangs-in-post.1": "post",
			"slow-undo.1": "frozen",
			"ignores-cancel.1": "prepared",
		}))
			test(`with ${mode} in ${word}: undone, recorded, exit 0`, async () => {
				const one = await agent();
				const asker = stack.use(await connectAsker(one));
				await asker.order(mode);
				if (word !== "planning" && word !== "preparing") await asker.until("prepared", mode);
				if (word !== "planning" && word !== "preparing" && word !== "prepared") await asker.tell(mode, "freeze");
				if (word === "post") {
					await asker.until("frozen", mode);
					await asker.done(mode);
				}
				await asker.until(word, mode);
				one.child.kill("SIGTERM");
				expect(await one.exited).toMatchObject({ exitCode: 0, signal: null });
				const [job] = readJournal().jobs;
				expect(job).toMatchObject({ jobId: mode, phase: "failed" });
				const ended = /hangs|ignores|never/.test(mode) ? ["extension-failed", "stopping"] : ["stopping"];
				expect(ended).toContain(job?.report?.error?.code);
				expect(job?.report?.achieved).toBe(word === "post" ? "crash" : "none");
			}, 30_000);

		test("while another order waits: that one is refused with stopping", async () => {
			const one = await agent();
			const [first, second] = [stack.use(await connectAsker(one)), stack.use(await connectAsker(one))];
			await first.order("slow-undo.2");
			await first.until("prepared", "slow-undo.2");
			const waiting = second.order("good.late", { startWithinMs: 20_000 });
			await sleep(50);
			one.child.kill("SIGTERM");
			expect(await waiting).toMatchObject({ type: "refused", error: { code: "stopping" } });
			await one.exited;
		});

		test("during a slow install: exit 0 without waiting for it", async () => {
			writeFileSync(join(folders.packageFolder, "handler.mjs"), "setTimeout(() => {}, 60_000);");
			const starting = startAgent(folders);
			await poll(() => existsSync(join(folders.flags.stateDir, "extensions", "FakeSnapshot-1.0"))).toBe(true);
			const children = readFileSync(`/proc/self/task/${process.pid}/children`, "utf8").trim().split(" ");
			for (const pid of children)
				if (readFileSync(`/proc/${pid}/cmdline`, "latin1").includes(folders.root)) process.kill(Number(pid), "SIGTERM");
			expect((await (await starting).exited).exitCode).toBe(0);
		});
	});

	describe("SIGKILL", () => {
		test("of the agent during a job: the next life records interrupted, evidence lost, and knows the id", async () => {
			const first = await agent();
			const asker = stack.use(await connectAsker(first));
			await asker.order("good.killed");
			await asker.until("prepared", "good.killed");
			await asker.tell("good.killed", "freeze");
			await asker.until("frozen", "good.killed");
			await asker.done("good.killed").catch(() => {});
			first.child.kill("SIGKILL");
			await first.exited;
			const second = await agent();
			const again = stack.use(await connectAsker(second));
			const { report } = await again.client.call("job.report", { jobId: "good.killed" });
			expect(report).toMatchObject({ because: ["evidence-lost"], error: { code: "interrupted" } });
			expect(await again.order("good.killed")).toMatchObject({ repeated: true, report: { jobId: "good.killed" } });
		});

		test("before a snapshot was told the level is none, after it crash at best", async () => {
			for (const [jobId, achieved] of [
				["good.untold", "none"],
				["hangs-in-post.told", "crash"],
			] as const) {
				const one = await startAgent(folders);
				const asker = await connectAsker(one);
				await asker.order(jobId);
				await asker.until("prepared", jobId);
				await asker.tell(jobId, "freeze");
				await asker.until("frozen", jobId);
				if (achieved === "crash") {
					await asker.done(jobId);
					await asker.until("post", jobId);
				}
				one.child.kill("SIGKILL");
				await one.exited;
				await asker[Symbol.asyncDispose]();
				await using next = await startAgent(folders);
				await using again = await connectAsker(next);
				expect((await again.client.call("job.report", { jobId })).report.achieved).toBe(achieved);
			}
		}, 30_000);
	});

	describe("a state folder that cannot be used", () => {
		test("of another owner", async () => {
			mkdirSync(folders.flags.stateDir, { mode: 0o700 });
			chownSync(folders.flags.stateDir, 65_534, 65_534);
			await refusedWith("state-unusable", 78, /uid 65534/);
		});
		test("open to others", async () => {
			mkdirSync(folders.flags.stateDir);
			chmodSync(folders.flags.stateDir, 0o755);
			await refusedWith("state-unusable", 78, /mode 755/);
		});
		test("a link", async () => {
			mkdirSync(join(folders.root, "elsewhere"), { mode: 0o700 });
			symlinkSync(join(folders.root, "elsewhere"), folders.flags.stateDir);
			await refusedWith("state-unusable", 78, /no folder/);
		});
		test("a file", async () => {
			writeFileSync(folders.flags.stateDir, "");
			await refusedWith("state-unusable", 78);
		});
		test("below a file", async () => {
			writeFileSync(join(folders.root, "file"), "");
			folders.flags.stateDir = join(folders.root, "file", "state");
			await refusedWith("state-unusable", 78, /ENOTDIR/);
		});
		test("on a read-only file system", async () => {
			mkdirSync(folders.flags.stateDir, { mode: 0o700 });
			await execa("mount", ["-t", "tmpfs", "-o", "size=1m,mode=700", "tmpfs", folders.flags.stateDir]);
			stack.defer(async () => void (await execa("umount", [folders.flags.stateDir])));
			await execa("mount", ["-o", "remount,ro", folders.flags.stateDir]);
			await refusedWith("state-unusable", 78);
		});
		test("the same for run and log folders", async () => {
			mkdirSync(folders.flags.logDir);
			chmodSync(folders.flags.logDir, 0o777);
			await refusedWith("state-unusable", 78, /log/);
			rmSync(folders.flags.logDir, { recursive: true });
			chmodSync(folders.flags.runDir, 0o755);
			await refusedWith("state-unusable", 78, /run/);
		});
	});

	describe("the journal", () => {
		test("that is no database, or a damaged one, is named and left alone", async () => {
			await (await agent())[Symbol.asyncDispose]();
			const path = join(folders.flags.stateDir, "journal.db");
			const good = readFileSync(path);
			for (const bad of [Buffer.from("not a database, but long enough to be read as one".repeat(50)), damage(good)]) {
				writeFileSync(path, bad);
				await refusedWith("journal-corrupt", 78, /journal\.db/);
				expect(readFileSync(path).equals(bad)).toBe(true);
			}
			writeFileSync(path, good);
			truncateSync(path, good.length - 4096);
			await refusedWith("journal-corrupt", 78);
			rmSync(path);
			expect((await stack.use(await startAgent(folders))).child.exitCode).toBeNull();
		}, 30_000);

		test("of a newer program is refused", async () => {
			await (await agent())[Symbol.asyncDispose]();
			const { DatabaseSync } = await import("node:sqlite");
			const database = new DatabaseSync(join(folders.flags.stateDir, "journal.db"));
			database.exec("PRAGMA user_version = 99");
			database.close();
			await refusedWith("version-unsupported", 2);
		});

		test("of another machine is put aside: no old job, no old report", async () => {
			const first = await agent();
			await using asker = await connectAsker(first);
			await asker.order("good.copied");
			first.child.kill("SIGKILL");
			await first.exited;
			{
				using journal = openJournal(join(folders.flags.stateDir, "journal.db"));
				journal.writeIdentity(JSON.stringify({ machineId: "0".repeat(32), systemUuid: "of another machine" }));
			}
			const second = await agent();
			const again = stack.use(await connectAsker(second));
			expect((await again.client.call("job.list", {})).jobs).toEqual([]);
			expect(readdirSync(folders.flags.stateDir)).toContain("journal-of-another-machine-1.db");
		});

		test("on a full disk: an order is refused before anything starts; a report that does not fit is not lost", async () => {
			mkdirSync(folders.flags.stateDir, { mode: 0o700 });
			await execa("mount", ["-t", "tmpfs", "-o", "size=400k,mode=700", "tmpfs", folders.flags.stateDir]);
			stack.defer(async () => void (await execa("umount", [folders.flags.stateDir])));
			const one = stack.use(await startAgent(folders));
			const asker = await connectAsker(one);
			stack.use(asker);
			const fill = () =>
				execa("dd", ["if=/dev/zero", `of=${folders.flags.stateDir}/filler`, "bs=4k"], { reject: false });
			const empty = () => rmSync(join(folders.flags.stateDir, "filler"), { force: true });

			await fill();
			expect(await asker.order("good.full")).toMatchObject({ type: "refused", error: { code: "disk-full" } });
			expect(asker.events).toEqual([]);
			empty();
			expect(await asker.order("good.full")).toMatchObject({ type: "accepted", repeated: false });
			await asker.until("prepared", "good.full");
			await fill();
			await asker.cancel("good.full");
			expect((await asker.until("report", "good.full")).report?.error?.code).toBe("cancelled");
			await poll(() => folders.readLog()).toMatch(/could not be journaled.*disk-full/);
			expect((await asker.client.call("job.report", { jobId: "good.full" })).report.error?.code).toBe("cancelled");
			// Killed before there is space: the next life finds it on tmpfs.
			one.child.kill("SIGKILL");
			await one.exited;
			empty();
			const second = stack.use(await startAgent(folders));
			const again = await connectAsker(second);
			stack.use(again);
			expect((await again.client.call("job.report", { jobId: "good.full" })).report.error?.code).toBe("cancelled");
			await poll(() => readdirSync(join(folders.flags.runDir, "reports"))).toEqual([]);
		}, 30_000);
	});

	describe("extensions", () => {
		const commands = () =>
			readFileSync(join(folders.flags.stateDir, "extensions/FakeSnapshot-1.0/commands.log"), "utf8").trim().split("\n");

		test("installed once, enabled at every start, installed anew when the content changes", async () => {
			await (await agent())[Symbol.asyncDispose]();
			expect(commands()).toEqual(["install", "enable"]);
			await (await agent())[Symbol.asyncDispose]();
			expect(commands()).toEqual(["install", "enable", "enable"]);
			writeFileSync(join(folders.packageFolder, "more.txt"), "x");
			await (await agent())[Symbol.asyncDispose]();
			expect(commands()).toEqual(["install", "enable"]);
		}, 30_000);

		for (const [what, prepare, code] of [
			[
				"a file that others may write",
				() => chmodSync(join(folders.packageFolder, "snapshot.mjs"), 0o666),
				"untrusted-path",
			],
			[
				"a folder above that others may write",
				() => chmodSync(join(folders.root, "packages"), 0o777),
				"untrusted-path",
			],
			["a link in it", () => symlinkSync("/etc/passwd", join(folders.packageFolder, "link")), "extension-invalid"],
			[
				"a manifest that is no JSON",
				() => writeFileSync(join(folders.packageFolder, "HandlerManifest.json"), "{"),
				"extension-invalid",
			],
			[
				"a manifest without commands",
				() => writeFileSync(join(folders.packageFolder, "HandlerManifest.json"), '[{"name":"X","version":"1.0"}]'),
				"extension-invalid",
			],
			[
				"a manifest whose name leaves the folder",
				() =>
					writeFileSync(
						join(folders.packageFolder, "HandlerManifest.json"),
						'[{"name":"../../X","version":"1.0","handlerManifest":{}}]',
					),
				"extension-invalid",
			],
			[
				"an install command that fails",
				() => writeFileSync(join(folders.packageFolder, "handler.mjs"), "process.exit(4)"),
				"extension-failed",
			],
			["a folder that does not exist", () => rmSync(folders.packageFolder, { recursive: true }), "extension-invalid"],
		] as const)
			test(`a package with ${what}: ${code} in the log, orders are refused, the agent runs`, async () => {
				prepare();
				const one = await agent();
				const asker = stack.use(await connectAsker(one));
				expect(await asker.order("good.1")).toMatchObject({ type: "refused", error: { code: "extension-missing" } });
				await poll(() => folders.readLog()).toContain(code);
			});
	});

	test("an invalid configuration ends with 78 and the key, before any folder is made", async () => {
		folders.writeConfig({ holdLimitCap: 5 });
		await refusedWith("config-invalid", 78, /unknown key holdLimitCap; the nearest known one is holdLimitCapMs/);
		expect(existsSync(folders.flags.stateDir)).toBe(false);
	});

	test("a configuration that others may write is refused", async () => {
		chmodSync(folders.flags.config, 0o666);
		await refusedWith("untrusted-path", 5);
	});
});

/** Wipes the middle of every page but the first, where the format's mark lies. */
function damage(database: Buffer): Buffer {
	const bad = Buffer.from(database);
	for (let at = 4096; at < bad.length; at += 4096) bad.fill(0xa5, at, at + 2048);
	return bad;
}

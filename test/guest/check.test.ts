/** `stillpoint check` on loop file systems: what it foretells, what it leaves alone, and a real freeze of its own. */
import { spawn } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { basename, join, resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { execa } from "execa";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { probeTargets } from "../../command-line/check/frozen-now.ts";
import { type Check, checkSchema } from "../../contracts/check.ts";
import type { Ledger } from "../../contracts/freezer-protocol.ts";
import { type AgentStatus, localCalls } from "../../contracts/local-calls.ts";
import { version } from "../../contracts/version.ts";
import { readBootId } from "../../platform/linux/boot-id.ts";
import { readMountTable } from "../../platform/linux/mount-table.ts";
import { findProcessIdentity } from "../../platform/linux/process-identity.ts";
import { type LocalHandlers, serveLocalChannel } from "../../platform/local-channel.ts";
import { freeze, type LoopFileSystem, makeLoopFileSystem, startGuard, thaw } from "../fixtures/loop-file-system.ts";
import { runInMemory } from "../fixtures/memory-context.ts";
import { poll } from "../fixtures/poll.ts";
import { startProductGuard } from "../fixtures/product-guard.ts";
import { requireTools } from "../fixtures/required-tools.ts";
import { makeSourceExtension } from "../fixtures/source-extension.ts";

const missing = requireTools("root", "mkfs.ext4", "losetup", "fsfreeze");
const entry = resolve(import.meta.dirname, "../../command-line/stillpoint.ts");
const noScripts = { azureFolder: null, qemuHookFolders: [], vmwareHookFolders: [] };

describe.skipIf(missing)(`stillpoint check${missing ? `: ${missing}` : ""}`, () => {
	const stack = new AsyncDisposableStack();
	let dir: string;
	let runDir: string;
	let lower: LoopFileSystem;
	let upper: LoopFileSystem;

	beforeAll(async () => {
		dir = mkdtempSync("/var/lib/stillpoint-test-check-");
		stack.defer(() => rmSync(dir, { recursive: true, force: true }));
		const runRoot = mkdtempSync("/dev/shm/stillpoint-test-check-");
		stack.defer(() => rmSync(runRoot, { recursive: true, force: true }));
		runDir = join(runRoot, "run");
		mkdirSync(runDir, { mode: 0o700 });
		stack.use(startGuard({ dir, limitMs: 110_000 }));
		lower = stack.use(await makeLoopFileSystem({ dir, fsType: "ext4", sizeMiB: 64, name: "lower" }));
		upper = stack.use(await makeLoopFileSystem({ dir: lower.mountPoint, fsType: "ext4", sizeMiB: 16, name: "upper" }));
	});
	afterAll(async () => {
		await thaw(lower.mountPoint);
		await thaw(upper.mountPoint);
		await stack.disposeAsync();
	});

	/** This machine's own disks are not the test's: order and filters name the loops. */
	function words(): string[] {
		const folders = ["--config", join(dir, "agent.json"), "--run-dir", runDir, "--state-dir", join(dir, "state")];
		return ["check", "--json", "--disk", basename(lower.device), ...folders];
	}

	function writeConfig(config: Record<string, unknown> = {}): void {
		const include = [lower, upper].map(({ mountPoint }) => ({ mountPoint }));
		const own = { version: 1, fileSystems: { include }, scriptsFolder: join(dir, "none"), otherScripts: noScripts };
		writeFileSync(join(dir, "agent.json"), JSON.stringify({ ...own, ...config }), { mode: 0o600 });
	}

	async function check(config: Record<string, unknown> = {}, ...more: string[]) {
		writeConfig(config);
		const { stdout, status } = await runInMemory([...words(), ...more]);
		const printed = JSON.parse(stdout);
		const found = (): Check => {
			expect(checkSchema.parse(printed)).toEqual(printed);
			return printed;
		};
		return { found, status, error: printed.error };
	}

	const levelOf = ({ disks }: Check) =>
		disks.filter(({ included }) => included).map(({ level, because }) => [level, because.map(({ code }) => code)]);
	const statusOf = ({ findings }: Check, name: string) => findings.find((one) => one.check === name)?.status;

	test("what a job would hold, in its order, and what it would be worth; nothing is touched", async () => {
		const { found, status } = await check();
		const one = found();
		expect(one.fileSystems.map(({ mountPoint, order, state, tried }) => [mountPoint, order, state, tried])).toEqual([
			[upper.mountPoint, 0, "not-frozen", undefined],
			[lower.mountPoint, 1, "not-frozen", undefined],
		]);
		expect(levelOf(one)).toEqual([["file-system", ["no-applications"]]]);
		expect([one.frozen, statusOf(one, "agent"), statusOf(one, "run-folder")]).toEqual([[], "warn", "ok"]);
		expect([one.state, status]).toEqual(["degraded", 3]);
		expect(readdirSync(runDir)).toEqual([]);
	});

	test("--try-freeze freezes and thaws each, says how long it took, and leaves nothing", async () => {
		const { found, status } = await check({}, "--try-freeze");
		const one = found();
		for (const { tried } of one.fileSystems) {
			// FITHAW's own answer: it was frozen until then.
			expect(tried).toMatchObject({ result: "thawed", freezeMs: expect.any(Number), thawMs: expect.any(Number) });
		}
		expect([one.fileSystems.length, statusOf(one, "try-freeze"), status]).toEqual([2, "ok", 3]);
		expect([await thaw(lower.mountPoint), await thaw(upper.mountPoint)]).toEqual([false, false]);
		expect(existsSync(join(runDir, "check"))).toBe(false);
	});

	test("a signal in the middle of --try-freeze ends it with its status, and everything is thawed", async () => {
		writeConfig();
		const stopping = new AbortController();
		let said = "";
		const { stdout, status } = await runInMemory([...words().filter((one) => one !== "--json"), "--try-freeze"], {
			stopping: stopping.signal,
			signalled: () => (stopping.signal.aborted ? "SIGINT" : undefined),
			stderr: (text) => {
				said += text;
				if (text.includes("freezing")) stopping.abort();
			},
		});
		expect([status, stdout, said]).toEqual([130, "", expect.stringContaining("stillpoint: terminated")]);
		expect([await thaw(lower.mountPoint), await thaw(upper.mountPoint)]).toEqual([false, false]);
		expect(existsSync(join(runDir, "check"))).toBe(false);
	});

	test("a foreign freeze is told, lowers its disk, and is left alone, by --try-freeze too", async () => {
		await freeze(lower.mountPoint);
		const { found, status } = await check();
		const one = found();
		expect([one.frozen, one.state, status]).toEqual([
			[{ mountPoint: lower.mountPoint, by: "other" }],
			"unprotected",
			9,
		]);
		expect(levelOf(one)).toEqual([["crash", expect.arrayContaining(["foreign-freeze"])]]);
		expect(statusOf(one, "scripts")).toBe("unknown");
		expect((await check({}, "--try-freeze")).error).toMatchObject({ code: "foreign-freeze" });
		expect(await thaw(lower.mountPoint)).toBe(true);
	});

	async function writeLedger(folder: string) {
		const { mountPoint } = upper;
		const superblock = (await readMountTable()).find((one) => one.mountPoint === mountPoint)?.superblock ?? "";
		const { pid, startTime } = findProcessIdentity(process.pid) ?? { pid: 1, startTime: "" };
		const target = { superblock, mountPoint, openPath: mountPoint, fsType: "ext4", level: 0, dev: "0", ino: "0" };
		const ledger: Ledger = {
			schemaVersion: 1,
			jobId: "night-1",
			bootId: await readBootId(),
			// One that has ended: the rescue signals the freezer.
			freezer: { pid, startTime: `${startTime}0` },
			fileSystems: [{ ...target, state: "frozen", fd: 3 }],
		};
		mkdirSync(join(folder, "freezes"), { recursive: true, mode: 0o700 });
		writeFileSync(join(folder, "freezes", "night-1.json"), JSON.stringify(ledger), { mode: 0o600 });
		return join(folder, "freezes", "night-1.json");
	}

	test("what a try left frozen when all of it was killed is ours, told with its job and time, and thawed by `thaw`", async () => {
		await writeLedger(join(runDir, "check"));
		await freeze(upper.mountPoint);
		const { found, status } = await check();
		expect(found().frozen).toEqual([
			{ mountPoint: upper.mountPoint, by: "stillpoint", jobId: "night-1", since: expect.any(String) },
		]);
		expect(status).toBe(9);
		await runInMemory(["thaw", "--run-dir", runDir]);
		expect(await thaw(upper.mountPoint)).toBe(false);
		rmSync(join(runDir, "check"), { recursive: true });
	});

	/** The moment in which a ledger says that FIFREEZE is on its way, or done. */
	async function stopWhileFrozen(pid: number, isOver: () => boolean): Promise<boolean> {
		const folder = join(runDir, "check", "freezes");
		while (!isOver()) {
			const names = existsSync(folder) ? readdirSync(folder).filter((name) => name.endsWith(".json")) : [];
			const texts = names.map((name) => {
				try {
					return readFileSync(join(folder, name), "utf8");
				} catch {
					return "";
				}
			});
			if (texts.some((text) => /"state":"(freezing|frozen)"/.test(text))) {
				process.kill(pid, "SIGSTOP");
				await sleep(500);
				return (await execa("fsfreeze", ["-f", upper.mountPoint], { reject: false })).exitCode !== 0;
			}
			await sleep(1);
		}
		return false;
	}

	test("a try that is stopped, and then killed, in the middle leaves nothing frozen", async () => {
		let wasHeld = false;
		for (let attempt = 0; attempt < 6 && !wasHeld; attempt += 1) {
			writeConfig();
			const child = spawn(process.execPath, [entry, ...words(), "--try-freeze"], { stdio: "ignore" });
			const ended = new Promise<void>((resolve) => child.once("close", () => resolve()));
			wasHeld = await stopWhileFrozen(child.pid ?? 0, () => child.exitCode !== null);
			// A freeze that the test made itself, because it looked too late.
			if (!wasHeld) await thaw(upper.mountPoint);
			child.kill("SIGKILL");
			await ended;
		}
		expect(wasHeld).toBe(true);
		// The upper one is thawed last.
		await poll(async () => {
			const again = await execa("fsfreeze", ["-f", upper.mountPoint], { reject: false });
			return again.exitCode === 0 && (await thaw(upper.mountPoint));
		}, 20_000).toBe(true);
		expect(await thaw(lower.mountPoint)).toBe(false);
		await runInMemory(["thaw", "--run-dir", runDir]);
		rmSync(join(runDir, "check"), { recursive: true, force: true });
	});

	test("what the configuration leaves out lowers the disk, and is not frozen by --try-freeze", async () => {
		const fileSystems = { include: [{ mountPoint: lower.mountPoint }] };
		const { found, status } = await check({ fileSystems }, "--try-freeze");
		const one = found();
		expect(levelOf(one)).toEqual([["crash", ["excluded-by-config"]]]);
		expect(one.fileSystems.map(({ mountPoint, tried }) => [mountPoint, tried?.result])).toEqual([
			[lower.mountPoint, "thawed"],
		]);
		expect([one.state, status]).toEqual(["unprotected", 3]);
	});

	test("a script that fails its dry run stands in the way of level application", async () => {
		const scriptsFolder = join(dir, "scripts.d");
		mkdirSync(scriptsFolder);
		writeFileSync(join(scriptsFolder, "bad.json"), "{}", { mode: 0o600 });
		const { found, status } = await check({ scriptsFolder, protection: { level: "application" } });
		const one = found();
		expect(levelOf(one)).toEqual([["file-system", ["script-failed"]]]);
		expect([statusOf(one, "scripts"), statusOf(one, "level"), one.state, status]).toEqual([
			"fail",
			"fail",
			"unprotected",
			3,
		]);
	});

	test("a run folder that is no tmpfs is found", async () => {
		const { found } = await check({}, "--run-dir", join(lower.mountPoint, "run"));
		expect([statusOf(found(), "run-folder"), statusOf(found(), "plan")]).toEqual(["fail", "fail"]);
	});

	test.skipIf(requireTools("mkfs.xfs"))("an XFS that the probe's remount would change is not probed", async () => {
		const mountOptions = ["inode32"];
		await using xfs = await makeLoopFileSystem({ dir, fsType: "xfs", sizeMiB: 320, name: "xfs", mountOptions });
		const find = async () => (await readMountTable()).find(({ mountPoint }) => mountPoint === xfs.mountPoint);
		const { superblock = "" } = (await find()) ?? {};
		const { mountPoint } = xfs;
		expect(await probeTargets([{ superblock, mountPoint, openPath: mountPoint }], 10_000)).toEqual(
			new Map([[superblock, "unknown"]]),
		);
		expect((await find())?.superOptions).toContain("inode32");
	});

	/** An agent that answers nothing but its status. */
	async function serveStatus(changes: Partial<AgentStatus>): Promise<AsyncDisposable> {
		const none = () => Promise.reject(new Error("not in this test"));
		const status: AgentStatus = {
			...{ schemaVersion: 1, version, pid: 1, hostname: "h", startedAt: "2026-01-01T00:00:00.000Z" },
			link: { enrolled: true, connected: true, unsentReports: 0, certificateExpiresAt: "2999-01-01T00:00:00.000Z" },
			...{ extensions: [], frozen: [], lastJobs: [] },
			protection: { state: "unprotected", why: [], wanted: { level: "crash", maxAgeMs: null } },
			...changes,
		};
		const handlers = {
			...(Object.fromEntries(Object.keys(localCalls).map((name) => [name, none])) as unknown as LocalHandlers),
			"agent.status": () => Promise.resolve(status),
		} as LocalHandlers;
		const { signal } = new AbortController();
		const socketPath = join(runDir, "agent.sock");
		return await serveLocalChannel({ socketPath, handlers, isFrozen: () => false, signal });
	}

	test("--try-freeze is refused while a job runs", async () => {
		const startedAt = "2026-01-01T00:00:00.000Z";
		await using _agent = await serveStatus({
			job: { jobId: "night-2", phase: "frozen", requested: "crash", startedAt },
		});
		const { error, status } = await check({}, "--try-freeze");
		expect([error.code, error.message, status]).toEqual(["job-running", expect.stringContaining("night-2"), 7]);
		expect(await thaw(lower.mountPoint)).toBe(false);
	});

	test("protected, where agent, guard and extension are there and nothing is in the way", async () => {
		const extensions = join(dir, "state", "extensions");
		mkdirSync(extensions, { recursive: true, mode: 0o700 });
		const config = join(makeSourceExtension(extensions), "config");
		mkdirSync(config);
		writeFileSync(join(config, "HandlerState"), "Enabled");
		await using _agent = await serveStatus({});
		expect(statusOf((await check()).found(), "guard")).toBe("warn");
		await using _guard = await startProductGuard(runDir);
		const { found, status } = await check();
		const one = found();
		// How much data waits to be written is this machine's own.
		const isStalled = statusOf(one, "stall") === "warn";
		expect(one.findings.filter(({ check: name, status: is }) => is !== "ok" && name !== "stall")).toEqual([]);
		expect([one.state, status]).toEqual(isStalled ? ["degraded", 3] : ["protected", 0]);
		expect(one.findings.map(({ check: name }) => name)).toEqual(
			expect.arrayContaining(["link", "certificate", "clock"]),
		);
	});

	test("an agent of another version, without a connection and with a certificate that ran out, is in the way", async () => {
		const link = {
			enrolled: true,
			connected: false,
			unsentReports: 0,
			certificateExpiresAt: "2020-01-01T00:00:00.000Z",
		};
		await using _agent = await serveStatus({ version: "0.0.0", link });
		const { found } = await check();
		const is = (name: string) => statusOf(found(), name);
		expect([is("agent"), is("link"), is("certificate"), found().state]).toEqual([
			"warn",
			"warn",
			"fail",
			"unprotected",
		]);
	});
});

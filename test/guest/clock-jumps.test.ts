/**
 * The wall clock of agent and extension jumps while file systems are frozen (libfaketime; the monotonic clock stays):
 * a hold neither ends early nor lasts longer, and a deadline neither fires nor is lost.
 */
import { globSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Report } from "../../contracts/report.ts";
import { type AgentFoldersFixture, makeAgentFolders, startAgent } from "../fixtures/agent-process.ts";
import { connectAsker } from "../fixtures/job-client.ts";
import { type LoopFileSystem, makeLoopFileSystem, startGuard } from "../fixtures/loop-file-system.ts";
import { requireTools } from "../fixtures/required-tools.ts";
import { makeSourceExtension } from "../fixtures/source-extension.ts";
import { isWritable } from "../fixtures/writable.ts";

const missing = requireTools("root", "mkfs.ext4", "losetup", "faketime");
const heldMs = 700;
const deadlineMs = 2_000;

describe.skipIf(missing)(`a clock that jumps while frozen${missing ? `: ${missing}` : ""}`, () => {
	const stack = new AsyncDisposableStack();
	let folders: AgentFoldersFixture;
	let fileSystem: LoopFileSystem;
	let offset: string;

	beforeAll(async () => {
		folders = stack.use(makeAgentFolders());
		stack.use(startGuard({ dir: folders.root, limitMs: 110_000 }));
		fileSystem = stack.use(
			await makeLoopFileSystem({ dir: folders.root, fsType: "ext4", sizeMiB: 64, name: "machine" }),
		);
		offset = join(dirname(folders.flags.runDir), "clock-offset");
		// The agent gives an extension a clean environment, so its clock is set in its command.
		const program = [
			"/usr/bin/env",
			...Object.entries(clock()).map(([name, value]) => `${name}=${value}`),
			process.execPath,
		];
		const packageFolder = makeSourceExtension(folders.root, program.join(" "));
		writeFileSync(offset, "+0d");
		folders.writeConfig({
			extensions: { installFrom: [packageFolder] },
			fileSystems: { include: [{ mountPoint: fileSystem.mountPoint }] },
			scriptsFolder: join(folders.root, "no-scripts"),
		});
	});
	afterAll(() => stack.disposeAsync());

	/** A wall clock that is off by what the file says, at each look anew. */
	function clock(): Record<string, string> {
		return {
			LD_PRELOAD: globSync("/usr/lib/*/faketime/libfaketime.so.1")[0] ?? "",
			FAKETIME_TIMESTAMP_FILE: offset,
			FAKETIME_NO_CACHE: "1",
			FAKETIME_DONT_FAKE_MONOTONIC: "1",
		};
	}

	async function holdWhileTheClockJumps(
		jump: string,
		endedBy: "asker" | "deadline",
	): Promise<{ report: Report; clockMovedMs: number; waitedMs: number }> {
		writeFileSync(offset, "+0d");
		await using ending = new AsyncDisposableStack();
		const agent = await startAgent(folders, clock());
		ending.defer(async () => {
			agent.child.kill("SIGTERM");
			await agent.exited;
		});
		const asker = ending.use(await connectAsker(agent));
		const jobId = `${endedBy}${jump.replace("+", "-ahead-")}`;
		const holdLimitMs = endedBy === "asker" ? 5_000 : deadlineMs;
		const disks = { include: [fileSystem.device.replace("/dev/", "")] };
		await asker.order(jobId, { disks, acceptLevel: "file-system", holdLimitMs, snapshot: "unknown" });
		await asker.until("prepared", jobId, 30_000);
		await asker.tell(jobId, "freeze");
		await asker.until("frozen", jobId);
		const frozenAtMs = performance.now();
		writeFileSync(offset, jump);
		expect(await isWritable(fileSystem.mountPoint, heldMs)).toBe(false);
		if (endedBy === "asker") await asker.tell(jobId, "release");
		expect(await isWritable(fileSystem.mountPoint, 10_000)).toBe(true);
		const waitedMs = performance.now() - frozenAtMs;
		const { report } = await asker.until("report", jobId);
		if (report === undefined) throw new Error("no report");
		const clockMovedMs = readStatusTime(jobId) - Date.parse(report.frozenAt ?? "");
		return { report, clockMovedMs, waitedMs };
	}

	/** Written by the extension when all is over. */
	function readStatusTime(jobId: string): number {
		const files = globSync(join(folders.root, "**/*.status")).map((path) => readFileSync(path, "utf8"));
		const [status] = JSON.parse(files.find((text) => text.includes(jobId)) ?? "[]");
		return Date.parse(status?.timestampUTC);
	}

	const jumps: [string, number][] = [
		["+10d", 864_000_000],
		["-10d", -864_000_000],
	];

	test.each(jumps)("by %s: the hold ends when its asker lets go, and its times are true", async (jump, jumpMs) => {
		const { report, clockMovedMs } = await holdWhileTheClockJumps(jump, "asker");
		// The control: the clock that the extension sees did jump.
		expect(Math.abs(clockMovedMs - jumpMs)).toBeLessThan(60_000);
		expect(report.error).toBeUndefined();
		expect(report.held).toBe("file-system");
		expect(report.window?.heldMs).toBeGreaterThan(heldMs - 50);
		expect(report.window?.heldMs).toBeLessThan(5_000);
		expect(report.durationMs).toBeLessThan(60_000);
	});

	test.each(jumps)(
		"by %s: a hold that nobody ends is over at its limit, no sooner and no later",
		async (jump, jumpMs) => {
			const { report, clockMovedMs, waitedMs } = await holdWhileTheClockJumps(jump, "deadline");
			expect(Math.abs(clockMovedMs - jumpMs)).toBeLessThan(60_000);
			expect(Math.abs(waitedMs - deadlineMs)).toBeLessThan(1_500);
			expect(Math.abs((report.window?.heldMs ?? 0) - deadlineMs)).toBeLessThan(1_500);
			expect(report.error?.code).toBe("hold-expired");
			expect(report).toMatchObject({ held: "crash", because: expect.arrayContaining(["thawed-early"]) });
		},
	);
});

import { statSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { FreezerEvent, FreezeTarget } from "../../contracts/freezer-protocol.ts";
import { type Freezer, startFreezer } from "../../platform/linux/freezer/freezer-client.ts";
import { isSameProcessAlive } from "../../platform/linux/process-identity.ts";

const ready = JSON.stringify({ type: "ready", pinnedBytes: 0 });
const frozen = JSON.stringify({ type: "frozen", atMs: 1, leftMs: 1, expedited: false });
const target: FreezeTarget = {
	superblock: "7:0",
	mountPoint: "/nowhere",
	openPath: "/nowhere",
	fsType: "ext4",
	level: 0,
	dev: "1",
	ino: "2",
};

/** A program in the freezer's place, that says these lines one after the other, each time it is told something. */
function says(...lines: string[]): [string, ...string[]] {
	const program = `const lines = ${JSON.stringify(lines)};
process.stdin.on("data", () => { const line = lines.shift(); if (line !== undefined) process.stdout.write(line + "\\n"); });`;
	return [process.execPath, "-e", program];
}

describe("the freezer's parent", () => {
	let runDir: string;
	let stack: AsyncDisposableStack;
	let events: FreezerEvent[];

	beforeEach(async () => {
		runDir = await mkdtemp(join(tmpdir(), "stillpoint-client-"));
		stack = new AsyncDisposableStack();
		stack.defer(() => rm(runDir, { recursive: true, force: true }));
		events = [];
	});
	afterEach(() => stack.disposeAsync());

	function start(command?: [string, ...string[]], signal = new AbortController().signal): Freezer {
		const onEvent = (event: FreezerEvent) => void events.push(event);
		const freezer = startFreezer({ ...(command ? { command } : {}), threads: 8, runDir, onEvent, signal });
		stack.defer(async () => {
			freezer.kill("SIGKILL");
			await freezer.exited;
		});
		return freezer;
	}
	function prepare(freezer: Freezer, limitMs = 5_000) {
		return freezer.prepare({ jobId: "j", bootId: "b", targets: [target], limitMs });
	}
	const limits = { holdLimitMs: 200, freezeLimitMs: 100, expedited: true };

	it.each<[string, [string, ...string[]], string]>([
		["a program that is not there", ["/nowhere/freezer"], "freezer-died"],
		["a program that ends at once", [process.execPath, "-e", "0"], "freezer-died"],
		["words that are no JSON", says("hello"), "internal"],
		["an event that nobody knows", says('{"type":"melted"}'), "internal"],
		["an event with a field too many", says('{"type":"ready","pinnedBytes":0,"more":1}'), "internal"],
		[
			"a line longer than any event",
			[process.execPath, "-e", `process.stdout.write("x".repeat(5_000_000)); setTimeout(() => {}, 5_000)`],
			"internal",
		],
	])("%s is no freezer", async (_what, command, code) => {
		await expect(prepare(start(command))).rejects.toMatchObject({ code });
	});

	it("one that says nothing is given up at the limit", async () => {
		await expect(prepare(start(says()), 100)).rejects.toMatchObject({ code: "deadline-passed" });
	});

	it("one that never says frozen is stuck, its own deadline and a second later", async () => {
		const freezer = start(says(ready));
		await prepare(freezer);
		await expect(freezer.freeze(limits)).rejects.toMatchObject({ code: "stuck" });
	});

	it("one that never says thawed is stuck", async () => {
		const freezer = start(says(ready, frozen));
		await prepare(freezer);
		await freezer.freeze(limits);
		await expect(freezer.thaw(100)).rejects.toMatchObject({ code: "stuck" });
	});

	it("one that dies in the hold is known to be dead when it is reaped", async () => {
		const freezer = start(says(ready, frozen));
		await prepare(freezer);
		await freezer.freeze(limits);
		expect(isSameProcessAlive(freezer.identity)).toBe(true);
		freezer.kill("SIGKILL");
		expect(await freezer.exited).toMatchObject({ status: null, signal: "SIGKILL" });
		expect(isSameProcessAlive(freezer.identity)).toBe(false);
		await expect(freezer.thawed).rejects.toMatchObject({ code: "freezer-died" });
		await expect(freezer.thaw(1_000)).rejects.toMatchObject({ code: "freezer-died" });
	});

	it("what the freezer said last before it ended is still heard", async () => {
		const thawed = JSON.stringify({ type: "thawed", cause: "deadline", atMs: 1, fileSystems: [] });
		const program = `process.stdin.on("data", () => process.stdout.write(${JSON.stringify(`${ready}\n${thawed}\n`)}, () => process.exit()))`;
		const freezer = start([process.execPath, "-e", program]);
		await prepare(freezer);
		expect((await freezer.thawed).cause).toBe("deadline");
		await expect(freezer.freeze(limits)).rejects.toMatchObject({ code: "freeze-late" });
	});

	it("words on stderr are kept to their end", async () => {
		const program = `process.stderr.write("x".repeat(100000) + "the end")`;
		const freezer = start([process.execPath, "-e", program]);
		const { stderrTail } = await freezer.exited;
		await freezer.thawed.catch(() => undefined);
		expect(stderrTail.length).toBeLessThanOrEqual(4096);
	});

	describe("with the real freezer", () => {
		it("a folder that is not there is told before anything is frozen, and nothing is left", async () => {
			const freezer = start();
			await expect(prepare(freezer)).rejects.toMatchObject({
				code: "freeze-failed",
				message: expect.stringContaining("/nowhere cannot be opened (ENOENT)"),
			});
			expect(await freezer.thawed).toMatchObject({ cause: "failed", fileSystems: [] });
			expect((await freezer.exited).status).toBe(0);
		});

		it("its parent's signal ends it, before it was told anything", async () => {
			const ending = new AbortController();
			const freezer = start(undefined, ending.signal);
			ending.abort();
			const { status, signal } = await freezer.exited;
			expect([status ?? signal]).toEqual([expect.toBeOneOf([0, "SIGTERM"])]);
		});

		it("a superblock named twice is refused", async () => {
			const freezer = start();
			const twice = freezer.prepare({ jobId: "j", bootId: "b", targets: [target, target], limitMs: 5_000 });
			await expect(twice).rejects.toMatchObject({ message: expect.stringContaining("twice") });
		});

		it("a run folder on a file system that would be frozen is refused", async () => {
			const dev = String(statSync(runDir, { bigint: true }).dev);
			const freezer = start();
			const targets = [{ ...target, dev }];
			const prepared = freezer.prepare({ jobId: "j", bootId: "b", targets, limitMs: 5_000 });
			await expect(prepared).rejects.toMatchObject({
				message: expect.stringContaining("which would be frozen"),
			});
		});
	});
});

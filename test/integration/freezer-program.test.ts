import {
	existsSync,
	mkdirSync,
	mkdtempSync,
	readdirSync,
	readFileSync,
	rmSync,
	statSync,
	writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { type FreezerEvent, type FreezeTarget, ledgerSchema } from "../../contracts/freezer-protocol.ts";
import type { CallError } from "../../platform/linux/freeze-calls.ts";
import { runFreezer } from "../../platform/linux/freezer/freezer-program.ts";
import { findProcessIdentity, type ProcessIdentity } from "../../platform/linux/process-identity.ts";
import { poll } from "../fixtures/poll.ts";

const lacking = existsSync("/dev/shm") ? "" : "no tmpfs at /dev/shm";
const self = findProcessIdentity(process.pid) as ProcessIdentity;

/**
 * The freezer's program in this process, over a kernel and an rcu_expedited of the test's making: what it told and wrote
 * is looked at in the middle of a FIFREEZE.
 */
describe.skipIf(lacking)(`the freezer's program${lacking && ` (${lacking})`}`, () => {
	let undo: DisposableStack;
	let dir: string;
	let folders: string;
	let switchPath: string;
	let ledgerPath: string;

	beforeEach(() => {
		undo = new DisposableStack();
		dir = mkdtempSync("/dev/shm/stillpoint-test-program-");
		undo.defer(() => rmSync(dir, { recursive: true, force: true }));
		folders = mkdtempSync("/var/lib/stillpoint-test-program-");
		undo.defer(() => rmSync(folders, { recursive: true, force: true }));
		switchPath = join(dir, "switch");
		writeFileSync(switchPath, "0\n");
		mkdirSync(join(dir, "freezes"));
		ledgerPath = join(dir, "freezes", "job.json");
	});
	afterEach(() => undo.dispose());

	const isOn = () => statSync(switchPath).isFile() && readFileSync(switchPath, "utf8").trim() !== "0";
	const markers = () => readdirSync(join(dir, "freezes")).filter((name) => name.startsWith("rcu-expedited"));
	const readLedger = () => ledgerSchema.parse(JSON.parse(readFileSync(ledgerPath, "utf8")));
	const states = () => readLedger().fileSystems.map(({ state }) => state);

	function targets(levels: readonly number[]): FreezeTarget[] {
		return levels.map((level, index) => {
			const path = join(folders, String(index));
			mkdirSync(path);
			const { dev, ino } = statSync(path, { bigint: true });
			const superblock = `7:${index}`;
			return {
				superblock,
				mountPoint: path,
				openPath: path,
				fsType: "ext4",
				level,
				dev: String(dev),
				ino: String(ino),
			};
		});
	}

	/** `freeze` answers for the n-th FIFREEZE; "never" is held until `letGo`. */
	function start(
		levels: readonly number[],
		freeze: (nth: number) => CallError | "never" = () => undefined,
		expeditedLimitMs = 60_000,
	) {
		const input = new PassThrough();
		const output = new PassThrough();
		const ending = new AbortController();
		const events: FreezerEvent[] = [];
		const held = Promise.withResolvers<void>();
		/** What was seen at each FIFREEZE. */
		const seen: { on: boolean; markers: number; states: string[]; deadlineAtMs: number | undefined }[] = [];
		let rest = "";
		output.on("data", (chunk: Buffer) => {
			const lines = (rest + chunk.toString()).split("\n");
			rest = lines.pop() ?? "";
			events.push(...lines.map((line): FreezerEvent => JSON.parse(line)));
		});
		const tell = (...commands: unknown[]) => {
			for (const command of commands) input.write(`${JSON.stringify(command)}\n`);
		};
		const result = runFreezer({
			input,
			output,
			self,
			threads: 32,
			signal: ending.signal,
			nowMs: () => performance.now(),
			expediting: { switchPath, limitMs: expeditedLimitMs },
			processCalls: { pinProgram: () => 0, unpinProgram: () => undefined, forbidCoreDumps: () => undefined },
			calls: {
				...{ sync: never, probeFrozen: never, readLoopStatus: never },
				async freeze(fd) {
					if (fd < 0) return "EBADF";
					const { deadlineAtMs } = readLedger();
					seen.push({ on: isOn(), markers: markers().length, states: states(), deadlineAtMs });
					const answer = freeze(seen.length);
					if (answer !== "never") return answer;
					await held.promise;
					return undefined;
				},
				thaw: async (fd) => (fd < 0 ? "EBADF" : undefined),
			},
		});
		const limits = { holdLimitMs: 20_000, freezeLimitMs: 10_000, expedited: true };
		tell({ type: "targets", jobId: "job", bootId: "boot", ledgerPath, targets: targets(levels) });
		return {
			...{ events, seen, input, ending, tell, result },
			letGo: () => held.resolve(),
			freeze: (more: Partial<typeof limits> = {}) => tell({ type: "freeze", ...limits, ...more }),
			until: (type: FreezerEvent["type"]) => poll(() => events.map((event) => event.type)).toContain(type),
			told: <T extends FreezerEvent["type"]>(type: T) =>
				events.find((event): event is Extract<FreezerEvent, { type: T }> => event.type === type),
		};
	}

	async function never(): Promise<never> {
		throw new Error("not called");
	}

	describe("rcu_expedited", () => {
		it("that can't be switched is left alone, and all is frozen without it", async () => {
			rmSync(switchPath);
			mkdirSync(switchPath);
			const freezer = start([0]);
			freezer.freeze();
			await freezer.until("frozen");
			expect(freezer.seen.map(({ on, markers: count }) => [on, count])).toEqual([[false, 0]]);
			expect(freezer.told("frozen")?.expedited).toBe(false);
			freezer.tell({ type: "thaw" });
			expect(await freezer.result).toBe("clean");
		});

		it("is on with a marker at every FIFREEZE, and off when all is frozen", async () => {
			const freezer = start([0, 0, 1]);
			freezer.freeze();
			await freezer.until("frozen");
			expect(freezer.seen.map(({ on, markers: count }) => [on, count])).toEqual(Array(3).fill([true, 1]));
			expect([isOn(), markers()]).toEqual([false, []]);
			expect(freezer.told("frozen")?.expedited).toBe(true);
			freezer.tell({ type: "thaw" });
			expect(await freezer.result).toBe("clean");
		});

		it("is never touched when it may not be used", async () => {
			const freezer = start([0, 1]);
			freezer.freeze({ expedited: false });
			await freezer.until("frozen");
			expect(freezer.seen.map(({ on, markers: count }) => [on, count])).toEqual(Array(2).fill([false, 0]));
			expect(freezer.told("frozen")?.expedited).toBe(false);
			freezer.input.end();
			expect(await freezer.result).toBe("clean");
		});

		it.each([true, false])("switched on by somebody else it stays on (expedited: %s)", async (expedited) => {
			writeFileSync(switchPath, "1\n");
			const freezer = start([0]);
			freezer.freeze({ expedited });
			await freezer.until("frozen");
			expect(freezer.seen.map(({ on, markers: count }) => [on, count])).toEqual([[true, 0]]);
			expect(freezer.told("frozen")?.expedited).toBe(true);
			expect(isOn()).toBe(true);
			freezer.input.end();
			expect(await freezer.result).toBe("clean");
		});

		type Started = ReturnType<typeof start>;
		it.each<[string, Partial<{ holdLimitMs: number; freezeLimitMs: number }>, (freezer: Started) => void]>([
			["a signal", {}, ({ ending }) => ending.abort()],
			["a thaw", {}, ({ tell }) => tell({ type: "thaw" })],
			["the parent's end", {}, ({ input }) => void input.end()],
			["a line that is no command", {}, ({ tell }) => tell({ type: "melt" })],
			["the deadline", { holdLimitMs: 100 }, () => undefined],
			["a late level", { freezeLimitMs: 100 }, () => undefined],
		])("is put back at once by %s, though a FIFREEZE is in flight", async (_what, limits, end) => {
			const freezer = start([0, 0, 1], (nth) => (nth === 2 ? "never" : undefined));
			freezer.freeze(limits);
			await poll(() => freezer.seen.length).toBe(2);
			end(freezer);
			await poll(() => [isOn(), markers()]).toEqual([false, []]);
			expect(states()).toContain("freezing");
			expect(freezer.told("thawed")).toBeUndefined();
			freezer.letGo();
			expect(await freezer.result).toBe("clean");
			expect(freezer.seen).toHaveLength(2);
			expect(freezer.told("thawed")?.fileSystems.map(({ result }) => result)).toEqual(["thawed", "thawed", "pending"]);
		});

		it.each(["EBUSY", "EOPNOTSUPP", "EIO"])("is put back when FIFREEZE answers %s", async (error) => {
			const freezer = start([0, 0, 1], (nth) => (nth === 2 ? error : undefined));
			freezer.freeze();
			await freezer.result;
			expect(freezer.told("failed")?.reason).toBe(error === "EBUSY" ? "foreign-freeze" : "freeze-failed");
			expect([isOn(), markers()]).toEqual([false, []]);
		});

		it("is put back when the ledger can't be written, and nothing is frozen", async () => {
			const freezer = start([0]);
			await freezer.until("ready");
			rmSync(ledgerPath);
			mkdirSync(ledgerPath);
			freezer.freeze();
			await freezer.result;
			expect(freezer.told("failed")?.reason).toBe("freeze-failed");
			expect(freezer.seen).toEqual([]);
			expect([isOn(), markers()]).toEqual([false, []]);
		});

		it("does not wait for a FIFREEZE that takes long", async () => {
			const freezer = start([0], () => "never", 200);
			freezer.freeze();
			await poll(() => freezer.seen.length).toBe(1);
			expect(freezer.seen[0]?.on).toBe(true);
			await poll(() => [isOn(), markers()]).toEqual([false, []]);
			expect(states()).toEqual(["freezing"]);
			freezer.letGo();
			await freezer.until("frozen");
			expect(freezer.told("frozen")?.expedited).toBe(true);
			freezer.input.end();
			expect(await freezer.result).toBe("clean");
		});
	});

	it("its ledger tells at each step what may be frozen, and until when", async () => {
		const freezer = start([0, 0, 1]);
		await freezer.until("ready");
		expect(states()).toEqual(["pending", "pending", "pending"]);
		expect(readLedger().deadlineAtMs).toBeUndefined();
		const before = performance.now();
		freezer.freeze({ holdLimitMs: 20_000 });
		await freezer.until("frozen");
		expect(freezer.seen.map((one) => one.states.join(" "))).toEqual([
			"freezing freezing pending",
			"freezing freezing pending",
			"frozen frozen freezing",
		]);
		const [{ deadlineAtMs = 0 } = {}] = freezer.seen;
		expect(deadlineAtMs).toBeGreaterThanOrEqual(before + 20_000);
		expect(deadlineAtMs).toBeLessThanOrEqual((freezer.told("frozen")?.atMs ?? 0) + 20_000);
		await poll(states).toEqual(["frozen", "frozen", "frozen"]);
		freezer.tell({ type: "thaw", superblocks: ["7:2", "7:0"] });
		await poll(states).toEqual(["thawed", "frozen", "thawed"]);
		expect(readLedger().deadlineAtMs).toBe(deadlineAtMs);
		freezer.tell({ type: "thaw" });
		expect(await freezer.result).toBe("clean");
		expect(readdirSync(join(dir, "freezes"))).toEqual([]);
		expect(freezer.told("thawed")).toMatchObject({
			cause: "asked",
			fileSystems: Array(3).fill({ result: "thawed" }),
		});
	});
});

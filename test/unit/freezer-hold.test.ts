import { describe, expect, it } from "vitest";
import type { FreezerEvent } from "../../contracts/freezer-protocol.ts";
import type { CallError } from "../../platform/linux/freeze-calls.ts";
import { freezeAll } from "../../platform/linux/freezer/freeze-all.ts";
import type { HeldFileSystem, HoldOptions } from "../../platform/linux/freezer/hold.ts";
import { rehearse } from "../../platform/linux/freezer/rehearsal.ts";
import { thawAll, thawSome } from "../../platform/linux/freezer/thaw-all.ts";
import { rescueThaw } from "../../platform/linux/thaw-until-reaped.ts";
import { poll } from "../fixtures/poll.ts";

type Answer = CallError | "never";

/** A kernel that answers as told; a FIFREEZE that answers "never" waits for `letGo`. */
function kernel(answers: { freeze?: Record<number, Answer>; thaw?: Record<number, Answer[]> } = {}) {
	const log: string[] = [];
	const held = Promise.withResolvers<void>();
	let running = 0;
	let most = 0;
	async function answer(told: Answer): Promise<CallError> {
		running += 1;
		most = Math.max(most, running);
		await new Promise((resolve) => setTimeout(resolve, 1));
		if (told === "never") await held.promise;
		running -= 1;
		return told === "never" ? undefined : told;
	}
	return {
		log,
		letGo: () => held.resolve(),
		most: () => most,
		calls: {
			freeze: (fd: number) => {
				log.push(`freeze ${fd}`);
				return answer(answers.freeze?.[fd]);
			},
			thaw: (fd: number) => {
				log.push(`thaw ${fd}`);
				const [next, ...rest] = answers.thaw?.[fd] ?? [];
				if (answers.thaw && rest.length > 0) answers.thaw[fd] = rest;
				return answer(next);
			},
		},
	};
}

function fileSystems(levels: readonly number[]): HeldFileSystem[] {
	return levels.map((level, fd) => ({
		fd,
		state: "pending",
		target: {
			superblock: `7:${fd}`,
			mountPoint: `/m${fd}`,
			openPath: `/m${fd}`,
			fsType: "ext4",
			level,
			dev: "1",
			ino: "2",
		},
	}));
}

function holdOf(levels: readonly number[], made: ReturnType<typeof kernel>, more: Partial<HoldOptions> = {}) {
	const events: FreezerEvent[] = [];
	const states: string[] = [];
	const stop = new AbortController();
	const list = fileSystems(levels);
	const options: HoldOptions = {
		fileSystems: list,
		calls: made.calls,
		freezeLimitMs: 60_000,
		threads: 64,
		stop: stop.signal,
		onState: () => states.push(list.map(({ state }) => state).join(" ")),
		onEvents: (some) => events.push(...some),
		nowMs: () => performance.now(),
		...more,
	};
	return { options, events, states, stop, list, inFlight: new Map<HeldFileSystem, Promise<void>>() };
}

describe("freezing level by level", () => {
	it("each file system is announced before its FIFREEZE is made", async () => {
		const made = kernel();
		const { options, inFlight, states } = holdOf([0, 1], made);
		const seen: string[] = [];
		const calls = {
			...made.calls,
			freeze: (fd: number) => {
				seen.push(states.at(-1) ?? "nothing");
				return made.calls.freeze(fd);
			},
		};
		expect(await freezeAll({ ...options, calls }, inFlight)).toBeUndefined();
		expect(seen).toEqual(["freezing pending", "frozen freezing"]);
	});

	it("answers are told in one go when their level is over, and those that come too late at once", async () => {
		const made = kernel({ freeze: { 3: "never" } });
		const { options, inFlight } = holdOf([0, 0, 1, 1], made, { freezeLimitMs: 30 });
		const told: string[] = [];
		const onEvents = (events: FreezerEvent[]) =>
			told.push(events.map((event) => event.type === "fileSystem" && event.superblock).join(" "));
		expect(await freezeAll({ ...options, onEvents }, inFlight)).toMatchObject({ reason: "freeze-late" });
		expect(told).toEqual(["7:0 7:1", "7:2"]);
		made.letGo();
		await Promise.all(inFlight.values());
		expect(told).toEqual(["7:0 7:1", "7:2", "7:3"]);
	});

	it("the rehearsal calls the kernel with no descriptor, and changes no file system", async () => {
		const made = kernel({ freeze: { "-1": "EBADF" }, thaw: { "-1": ["EBADF"] } });
		const list = fileSystems([0, 0, 1]);
		await rehearse(list, { calls: made.calls, threads: 10, nowMs: () => performance.now() });
		expect(new Set(made.log)).toEqual(new Set(["freeze -1", "thaw -1"]));
		expect(list.map(({ fd, state }) => [fd, state])).toEqual([0, 1, 2].map((fd) => [fd, "pending"]));
	});

	it("no more than half of the threads are ever in FIFREEZE", async () => {
		for (const [threads, most] of [
			[2, 1],
			[4, 1],
			[8, 3],
			[64, 12],
		] as const) {
			const made = kernel();
			const { options, inFlight, list } = holdOf(Array(12).fill(0), made, { threads });
			expect(await freezeAll(options, inFlight)).toBeUndefined();
			expect(made.most()).toBe(most);
			expect(list.every(({ state }) => state === "frozen")).toBe(true);
		}
	});

	it.each([
		["EBUSY", "foreign-freeze", "foreign"],
		["EOPNOTSUPP", "freeze-failed", "unsupported"],
		["EIO", "freeze-failed", "failed"],
		["EPERM", "freeze-failed", "failed"],
	])("%s is %s, and no later level begins", async (errno, reason, state) => {
		const made = kernel({ freeze: { 1: errno } });
		const { options, inFlight, list, states } = holdOf([0, 0, 1], made);
		expect(await freezeAll(options, inFlight)).toMatchObject({ reason, superblock: "7:1" });
		expect(made.log).toEqual(["freeze 0", "freeze 1"]);
		expect(list[1]?.state).toBe(state);
		expect(states.some((one) => one.includes(state))).toBe(true);
		await Promise.all(inFlight.values());
		const results = await thawAll(options, inFlight);
		expect(results.map(({ result }) => result)).toEqual(["thawed", state, "pending"]);
		expect(made.log.filter((one) => one.startsWith("thaw"))).toEqual(["thaw 0"]);
	});

	it("a late one fails the freeze, holds the later levels back, and is thawed when the kernel lets go", async () => {
		const made = kernel({ freeze: { 1: "never" } });
		const { options, inFlight, list } = holdOf([0, 0, 1], made, { freezeLimitMs: 30 });
		expect(await freezeAll(options, inFlight)).toMatchObject({ reason: "freeze-late", superblock: "7:1" });
		const thawing = thawAll(options, inFlight);
		await poll(() => list.map(({ state }) => state)).toEqual(["thawed", "freezing", "pending"]);
		made.letGo();
		expect((await thawing).map(({ result }) => result)).toEqual(["thawed", "thawed", "pending"]);
		expect(made.log).toEqual(["freeze 0", "freeze 1", "thaw 0", "thaw 1"]);
	});

	it("what can't be recorded is not frozen, and what was is thawed", async () => {
		const made = kernel();
		const { options, inFlight } = holdOf([0, 1], made);
		let full = false;
		const onState = () => {
			if (full) throw new Error("ENOSPC");
			full = true;
		};
		await expect(freezeAll({ ...options, onState }, inFlight)).rejects.toThrow("ENOSPC");
		const results = await thawAll({ ...options, onState }, inFlight);
		expect(results.map(({ result }) => result)).toEqual(["thawed", "pending"]);
		expect(made.log).toEqual(["freeze 0", "thaw 0"]);
	});

	it("an end that comes in the middle holds the rest back", async () => {
		const made = kernel({ freeze: { 0: "never" } });
		const { options, inFlight, stop } = holdOf([0, 1], made);
		const freezing = freezeAll(options, inFlight);
		stop.abort("eof");
		expect(await freezing).toBeUndefined();
		expect(made.log).toEqual(["freeze 0"]);
		made.letGo();
		expect((await thawAll(options, inFlight)).map(({ result }) => result)).toEqual(["thawed", "pending"]);
	});
});

describe("thawing", () => {
	async function frozen(levels: readonly number[], made: ReturnType<typeof kernel>) {
		const hold = holdOf(levels, made);
		expect(await freezeAll(hold.options, hold.inFlight)).toBeUndefined();
		made.log.length = 0;
		return hold;
	}

	it("lower layers come first", async () => {
		const made = kernel();
		const { options, inFlight } = await frozen([0, 2, 1], made);
		await thawAll(options, inFlight);
		expect(made.log).toEqual(["thaw 1", "thaw 2", "thaw 0"]);
	});

	it("one that hangs holds up neither its level nor, for long, those above", async () => {
		const made = kernel({ thaw: { 2: ["never"] } });
		const { options, inFlight, list } = await frozen([0, 1, 1], made);
		const thawing = thawAll(options, inFlight);
		await poll(() => list.map(({ state }) => state)).toEqual(["thawed", "thawed", "frozen"]);
		made.letGo();
		expect((await thawing).map(({ result }) => result)).toEqual(["thawed", "thawed", "thawed"]);
	});

	it("one that answers late is recorded then, and not when all have answered", async () => {
		const slow = Promise.withResolvers<void>();
		const made = kernel({ thaw: { 1: ["never"] } });
		const { options, inFlight, states } = await frozen([0, 0], made);
		const calls = { ...made.calls, thaw: (fd: number) => slow.promise.then(() => made.calls.thaw(fd)) };
		const thawing = thawAll({ ...options, calls }, inFlight);
		// The level is given up meanwhile.
		await poll(() => states.length).toBeGreaterThan(1);
		slow.resolve();
		await poll(() => states.at(-1)).toBe("thawed frozen");
		made.letGo();
		await thawing;
	});

	it("EINVAL is somebody else's thaw; another errno is tried again, then said", async () => {
		const made = kernel({ thaw: { 0: ["EINVAL"], 1: ["EIO", "EIO", undefined], 2: ["EIO"] } });
		const { options, inFlight } = await frozen([0, 0, 0], made);
		const results = await thawAll(options, inFlight);
		expect(results.map(({ result, errno }) => [result, errno])).toEqual([
			["not-frozen", "EINVAL"],
			["thawed", undefined],
			["thaw-failed", "EIO"],
		]);
	});
});

describe("thawing some", () => {
	async function frozen(levels: readonly number[], made: ReturnType<typeof kernel>) {
		const hold = holdOf(levels, made);
		expect(await freezeAll(hold.options, hold.inFlight)).toBeUndefined();
		made.log.length = 0;
		hold.states.length = 0;
		return hold;
	}
	const statesOf = (list: readonly HeldFileSystem[]) => list.map(({ state }) => state);

	it("unknown superblocks, and none of ours, thaw nothing", async () => {
		const made = kernel();
		const { options, list } = await frozen([0, 0], made);
		for (const named of [["9:9"], ["7:00"], [""]]) await thawSome(options, named);
		expect(made.log).toEqual([]);
		expect(statesOf(list)).toEqual(["frozen", "frozen"]);
	});

	it("those named are thawed once, lower layers first, and recorded at once; the rest stays frozen", async () => {
		const made = kernel();
		const { options, inFlight, list, states, events } = await frozen([0, 2, 1, 1], made);
		await thawSome(options, ["7:0", "7:2", "7:2", "7:1"]);
		expect(made.log).toEqual(["thaw 1", "thaw 2", "thaw 0"]);
		expect(states).toEqual([
			"frozen thawed frozen frozen",
			"frozen thawed thawed frozen",
			"thawed thawed thawed frozen",
		]);
		expect(events.slice(-3)).toMatchObject(
			["7:1", "7:2", "7:0"].map((superblock) => ({ type: "fileSystem", superblock, result: "thawed" })),
		);
		await thawSome(options, ["7:0", "7:2"]);
		expect(made.log).toHaveLength(3);
		const early = list[0]?.thawAnswer;
		const results = await thawAll(options, inFlight);
		expect(made.log).toEqual(["thaw 1", "thaw 2", "thaw 0", "thaw 3"]);
		expect(results.map(({ result }) => result)).toEqual(["thawed", "thawed", "thawed", "thawed"]);
		expect(results[0]).toEqual(early);
	});

	it("one that hangs holds up neither others of its level, nor the thaw of all, and is called once", async () => {
		const made = kernel({ thaw: { 0: ["never"] } });
		const { options, inFlight, list } = await frozen([0, 0, 0, 1], made);
		const some = thawSome(options, ["7:0", "7:1"]);
		await poll(() => statesOf(list)).toEqual(["frozen", "thawed", "frozen", "frozen"]);
		await thawSome(options, ["7:2"]);
		expect(statesOf(list)).toEqual(["frozen", "thawed", "thawed", "frozen"]);
		const all = thawAll(options, inFlight);
		await poll(() => statesOf(list)).toEqual(["frozen", "thawed", "thawed", "thawed"]);
		made.letGo();
		expect((await all).map(({ result }) => result)).toEqual(["thawed", "thawed", "thawed", "thawed"]);
		await some;
		expect(made.log).toEqual(["thaw 0", "thaw 1", "thaw 2", "thaw 3"]);
	});

	it("what somebody else had thawed stays told; what could not be thawed is tried again with all", async () => {
		const made = kernel({ thaw: { 0: ["EINVAL"], 1: ["EIO", "EIO", "EIO", "EIO", undefined] } });
		const { options, inFlight, states } = await frozen([0, 0, 0], made);
		await thawSome(options, ["7:0", "7:1"]);
		expect(states.at(-1)).toBe("not-frozen thaw-failed frozen");
		expect((await thawAll(options, inFlight)).map(({ result, errno }) => [result, errno])).toEqual([
			["not-frozen", "EINVAL"],
			["thawed", undefined],
			["thawed", undefined],
		]);
	});

	it("a record that can't be written holds up no thaw", async () => {
		const made = kernel();
		const { options, list } = await frozen([0, 1], made);
		const onState = () => {
			throw new Error("ENOSPC");
		};
		await thawSome({ ...options, onState }, ["7:0", "7:1"]);
		expect(statesOf(list)).toEqual(["thawed", "thawed"]);
	});
});

describe("the rescue", () => {
	const never = new Promise<void>(() => undefined);
	const folders = (levels: number[]) => fileSystems(levels).map(({ fd, target }) => ({ fd, target }));

	it("repeats until it was frozen, and then never again", async () => {
		const made = kernel({ thaw: { 0: ["EINVAL", "EINVAL", undefined] } });
		const results = await rescueThaw(folders([0]), {
			until: never,
			signal: AbortSignal.timeout(5_000),
			calls: made.calls,
		});
		expect(results).toMatchObject([{ result: "thawed" }]);
		expect(made.log).toHaveLength(3);
	});

	it("ends with one more try after the freezer is reaped", async () => {
		const made = kernel({ thaw: { 0: ["EINVAL"] } });
		const reaped = new Promise<void>((resolve) => setTimeout(resolve, 50));
		const signal = AbortSignal.timeout(5_000);
		const results = await rescueThaw(folders([0]), { until: reaped, signal, calls: made.calls });
		expect(results).toMatchObject([{ result: "not-frozen" }]);
		expect(made.log.length).toBeGreaterThan(1);
	});

	it("gives up by its signal, and says so of what never answered", async () => {
		const made = kernel({ thaw: { 0: ["never"] } });
		const stop = new AbortController();
		const { signal } = stop;
		const rescued = rescueThaw(folders([0, 0]), { until: never, signal, calls: made.calls, parallel: 2 });
		await poll(() => made.log).toContain("thaw 1");
		// A timer that is set later: the call has answered by then.
		setTimeout(() => stop.abort(), 20);
		const results = await rescued;
		expect(results.map(({ result, errno }) => [result, errno])).toEqual([
			["thaw-failed", "ETIMEDOUT"],
			["thawed", undefined],
		]);
		made.letGo();
	});

	it("takes lower layers first when threads are few", async () => {
		const made = kernel();
		await rescueThaw(folders([0, 1, 2]), {
			until: never,
			signal: AbortSignal.timeout(5_000),
			calls: made.calls,
			parallel: 1,
		});
		expect(made.log).toEqual(["thaw 2", "thaw 1", "thaw 0"]);
		expect(made.most()).toBe(1);
	});
});

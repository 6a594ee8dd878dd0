import { describe, expect, test } from "vitest";
import { StillpointError } from "../../contracts/errors.ts";
import { deadlineSignal } from "../../extensions/vm-snapshot-linux/abort-reasons.ts";
import type { Clock } from "../../extensions/vm-snapshot-linux/clock.ts";
import { syncTogether, syncWhileItPays } from "../../extensions/vm-snapshot-linux/sync-file-systems.ts";
import { groupByDisk } from "../../platform/linux/group-by-disk.ts";
import type { StackGraph, StackNode } from "../../platform/linux/stack-graph.ts";
import type { HeldFolder } from "../../platform/linux/target-folders.ts";

const folder = (fd: number, level = 0) => ({ target: { superblock: `7:${fd}`, level }, fd }) as HeldFolder;
const still: Clock = { nowMs: () => 0, utcNow: () => new Date(0) };
const quiet = { clock: still, signal: new AbortController().signal, onSync: () => undefined };

/** A kernel whose syncs end when they are let go; what runs at a time is told. */
function heldSyncs() {
	const running: number[] = [];
	const begun: number[] = [];
	const letGo = new Map<number, () => void>();
	const sync = (fd: number) => {
		running.push(fd);
		begun.push(fd);
		return new Promise<undefined>((resolve) =>
			letGo.set(fd, () => {
				running.splice(running.indexOf(fd), 1);
				resolve(undefined);
			}),
		);
	};
	const end = async (...fds: number[]) => {
		for (const fd of fds) letGo.get(fd)?.();
		await new Promise((resolve) => setImmediate(resolve));
	};
	return { sync, running, begun, end };
}

describe("the sync before the freeze", () => {
	/** Each sync takes as long as the list says. */
	async function passes(...tookMs: number[]): Promise<number> {
		let nowMs = 0;
		let calls = 0;
		const sync = () => {
			nowMs += tookMs[calls] ?? 0;
			calls += 1;
			return Promise.resolve(undefined);
		};
		const clock: Clock = { nowMs: () => nowMs, utcNow: () => new Date(0) };
		await syncWhileItPays([[folder(3)]], { sync }, { ...quiet, clock });
		return calls;
	}

	test("that hangs is waited for no longer than the signal says, and no other begins after it", async () => {
		for (const way of ["in turn", "together"] as const) {
			using limit = deadlineSignal(20, () => new StillpointError("deadline-passed", "enough"));
			const { sync, begun, end } = heldSyncs();
			const options = { ...quiet, signal: limit.signal };
			const both = [folder(3), folder(4)];
			const syncing =
				way === "in turn" ? syncWhileItPays([both], { sync }, options) : syncTogether(both, { sync }, options);
			await expect(syncing).rejects.toMatchObject({ code: "deadline-passed" });
			await end(3, 4);
			expect(begun).toEqual(way === "in turn" ? [3] : [3, 4]);
		}
	});

	test("nothing to sync ends at once", async () => {
		const { sync, begun } = heldSyncs();
		await syncWhileItPays([], { sync }, quiet);
		await syncWhileItPays([[]], { sync }, quiet);
		await syncTogether([], { sync }, quiet);
		expect(begun).toEqual([]);
	});

	test("is repeated while one takes much less than the one before", async () => {
		expect(await passes(2)).toBe(1);
		expect(await passes(4000, 900, 200, 10)).toBe(4);
		expect(await passes(4000, 3000, 2000)).toBe(2);
		expect(await passes(8000, 3000, 1400, 600, 290, 140)).toBe(5);
	});

	test("is repeated for those alone that had much to write", async () => {
		let nowMs = 0;
		const begun: number[] = [];
		const told: [string, number][] = [];
		const tookMs = new Map([
			[3, [5]],
			[4, [500, 100, 10]],
		]);
		const sync = (fd: number) => {
			begun.push(fd);
			nowMs += tookMs.get(fd)?.shift() ?? 0;
			return Promise.resolve(undefined);
		};
		const clock: Clock = { nowMs: () => nowMs, utcNow: () => new Date(0) };
		const onSync = (superblock: string, syncMs: number) => void told.push([superblock, syncMs]);
		await syncWhileItPays([[folder(3), folder(4)]], { sync }, { ...quiet, clock, onSync });
		expect(begun).toEqual([3, 4, 4, 4]);
		expect(told).toEqual([
			["7:3", 5],
			["7:4", 500],
			["7:4", 100],
			["7:4", 10],
		]);
	});

	test("takes those of one disk one after another, upper layers first, and other disks meanwhile", async () => {
		const { sync, running, begun, end } = heldSyncs();
		const syncing = syncWhileItPays([[folder(3, 1), folder(4, 0), folder(5, 2)], [folder(6)]], { sync }, quiet);
		expect(running).toEqual([4, 6]);
		await end(4);
		expect(running).toEqual([6, 3]);
		await end(3, 6);
		await end(5);
		await syncing;
		expect(begun).toEqual([4, 6, 3, 5]);
	});
});

describe("file systems that share a disk", () => {
	/** `lowers` of each node; an id that begins with "fs:" is a file system. */
	function graph(lowers: Record<string, readonly string[]>, unknown: readonly string[] = []): StackGraph {
		const nodes = Object.entries(lowers).map(([id, below]): [string, StackNode] => {
			const kind = id.startsWith("fs:") ? "file-system" : "device";
			const isDisk = kind === "device" && below.length === 0;
			return [id, { id, kind, name: id, isDisk, lowers: below, storageUnknown: unknown.includes(id) }];
		});
		return new Map(nodes);
	}

	test("what nothing is known of is a group of its own", () => {
		expect(groupByDisk([], graph({}))).toEqual([]);
		expect(groupByDisk(["7:0", "7:1"], graph({}))).toEqual([["7:0"], ["7:1"]]);
	});

	test("partitions of a disk, loop files on it and what spans two disks come together", () => {
		const stack = graph({
			"fs:8:1": ["8:1"],
			"8:1": ["8:0"],
			"fs:8:2": ["8:2"],
			"8:2": ["8:0"],
			"8:0": [],
			"fs:7:0": ["7:0"],
			"7:0": ["fs:8:1"],
			"fs:9:0": ["9:0"],
			"9:0": [],
			"fs:10:0": ["10:0"],
			"10:0": [],
		});
		expect(groupByDisk(["8:1", "9:0", "8:2", "7:0"], stack)).toEqual([["9:0"], ["8:1", "8:2", "7:0"]]);
		const spanning = new Map([...stack, ...graph({ "fs:0:40": ["9:0", "10:0"] })]);
		expect(groupByDisk(["9:0", "10:0", "0:40"], spanning)).toEqual([["9:0", "10:0", "0:40"]]);
	});

	test("all of unknown storage come together, with nobody else", () => {
		const stack = graph({ "fs:1:0": ["1:0"], "1:0": [], "fs:1:1": [], "fs:1:2": [] }, ["fs:1:1", "fs:1:2"]);
		expect(groupByDisk(["1:1", "1:0", "1:2"], stack)).toEqual([["1:0"], ["1:1", "1:2"]]);
	});
});

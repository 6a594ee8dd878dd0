import { afterEach, beforeEach, expect, test, vi } from "vitest";
import type { FreezeTarget } from "../../contracts/freezer-protocol.ts";
import { systemClock } from "../../extensions/vm-snapshot-linux/clock.ts";
import { FrozenWindow } from "../../extensions/vm-snapshot-linux/frozen-window.ts";
import { HoldAnswers } from "../../extensions/vm-snapshot-linux/hold-answers.ts";
import type { Freezer } from "../../platform/linux/freezer/freezer-client.ts";

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

const target = (superblock: string, mountPoint: string): FreezeTarget => ({
	superblock,
	mountPoint,
	openPath: mountPoint,
	fsType: "ext4",
	level: 0,
	dev: "0",
	ino: "0",
});

/** A window of two file systems: `/answered` is frozen, the FIFREEZE of `/in-flight` does not return. */
function openWindow(
	thaw: Freezer["thaw"],
	given: { exited?: Freezer["exited"]; thaw?: (fd: number) => Promise<string | undefined> } = {},
): { window: FrozenWindow; told: string[][] } {
	const told: string[][] = [];
	const answers = new HoldAnswers();
	answers.note({ type: "fileSystem", superblock: "1:1", result: "frozen", startedAtMs: 0, endedAtMs: 1 });
	const never = new Promise<never>(() => {});
	const freezer = {
		identity: { pid: -1, startTime: "" },
		thawed: never,
		exited: given.exited ?? never,
		freeze: () => Promise.reject(new Error("late")),
		thaw,
		kill: () => {},
		// No such folder: every target may be ours.
		ledgerPath: () => "/nonexistent/freezes/j.json",
	} as unknown as Freezer;
	const window = new FrozenWindow({
		jobId: "j",
		freezer,
		folders: [
			{ target: target("1:1", "/answered"), fd: 1 },
			{ target: target("1:2", "/in-flight"), fd: 2 },
		],
		calls: { thaw: given.thaw ?? (() => never) },
		answers,
		clock: systemClock(),
		onStuck: (mountPoints) => told.push(mountPoints),
	});
	return { window, told };
}

test("a FIFREEZE in flight when the thaw is due is told as stuck within a second, and it alone", async () => {
	const { window, told } = openWindow(() => new Promise(() => {}));
	await window.freeze({ holdLimitMs: 60_000, freezeLimitMs: 100, expedited: true }).catch(() => {});
	await vi.advanceTimersByTimeAsync(5_000);
	expect(told).toEqual([]);
	void window.thaw();
	await vi.advanceTimersByTimeAsync(999);
	expect(told).toEqual([["/in-flight"]]);
});

test("what is thawed when it is asked for is never told as stuck", async () => {
	const { window, told } = openWindow(() =>
		Promise.resolve({ type: "thawed", cause: "asked", atMs: 0, fileSystems: [] }),
	);
	await window.freeze({ holdLimitMs: 60_000, freezeLimitMs: 100, expedited: true }).catch(() => {});
	await window.thaw();
	await vi.advanceTimersByTimeAsync(5_000);
	expect(told).toEqual([]);
});

test("what a rescue has thawed is not thawed again when the freezer is reaped: it is somebody else's by then", async () => {
	const calls: number[] = [];
	const reaped = Promise.withResolvers<never>();
	const { window } = openWindow(() => Promise.reject(new Error("died")), {
		exited: reaped.promise,
		thaw: async (fd) => {
			calls.push(fd);
			return fd === 2 && calls.filter((one) => one === 2).length < 9 ? "EINVAL" : undefined;
		},
	});
	await window.freeze({ holdLimitMs: 60_000, freezeLimitMs: 100, expedited: true }).catch(() => {});
	const thawing = window.thaw();
	await vi.advanceTimersByTimeAsync(5_000);
	reaped.resolve({} as never);
	await vi.advanceTimersByTimeAsync(1_000);
	await thawing;
	expect(calls.filter((fd) => fd === 1)).toHaveLength(1);
});

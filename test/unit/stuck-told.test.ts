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
function openWindow(thaw: Freezer["thaw"]): { window: FrozenWindow; told: string[][] } {
	const told: string[][] = [];
	const answers = new HoldAnswers();
	answers.note({ type: "fileSystem", superblock: "1:1", result: "frozen", startedAtMs: 0, endedAtMs: 1 });
	const never = new Promise<never>(() => {});
	const freezer = {
		identity: { pid: -1, startTime: "" },
		thawed: never,
		exited: never,
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
			{ target: target("1:1", "/answered"), fd: -1 },
			{ target: target("1:2", "/in-flight"), fd: -1 },
		],
		calls: { thaw: () => never },
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

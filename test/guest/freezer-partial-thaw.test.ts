import { readFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { type FreezerEvent, type FreezeTarget, ledgerSchema } from "../../contracts/freezer-protocol.ts";
import { readBootId } from "../../platform/linux/boot-id.ts";
import { type Freezer, startFreezer, threadsFor } from "../../platform/linux/freezer/freezer-client.ts";
import { restoreExpedited } from "../../platform/linux/rcu-expedited.ts";
import { thawFromLedgers } from "../../platform/linux/rescue-thaw.ts";
import {
	freeze,
	type LoopFileSystem,
	makeLoopFileSystem,
	requireTools,
	startGuard,
	thaw,
} from "../fixtures/loop-file-system.ts";
import { targetsOf } from "../fixtures/planned-targets.ts";
import { poll } from "../fixtures/poll.ts";
import { isWritable } from "../fixtures/writable.ts";

const lacking = requireTools("root", "mkfs.ext4", "fsfreeze", "losetup");
const limits = { holdLimitMs: 20_000, freezeLimitMs: 10_000, expedited: true };

describe.skipIf(lacking)(`a thaw of some (${lacking || "on loop disks"})`, () => {
	let stack: AsyncDisposableStack;
	let dir: string;
	let runDir: string;
	const events: FreezerEvent[] = [];

	beforeEach(async () => {
		stack = new AsyncDisposableStack();
		dir = await mkdtemp("/var/lib/stillpoint-test-partial-");
		runDir = await mkdtemp("/dev/shm/stillpoint-test-partial-");
		stack.defer(() => rm(dir, { recursive: true, force: true }));
		stack.defer(() => rm(runDir, { recursive: true, force: true }));
		// A freezer that is killed in the instant of its freeze leaves it on, for whoever has its run folder.
		stack.defer(() => void restoreExpedited(join(runDir, "freezes")));
		stack.use(startGuard({ dir, limitMs: 60_000 }));
		events.length = 0;
	});
	afterEach(() => stack.disposeAsync());

	async function fileSystem(name: string, more: { inDir?: string; sizeMiB?: number } = {}): Promise<LoopFileSystem> {
		const { inDir = dir, sizeMiB = 16 } = more;
		return stack.use(await makeLoopFileSystem({ dir: inDir, fsType: "ext4", sizeMiB, name }));
	}

	async function prepared(targets: readonly FreezeTarget[]): Promise<Freezer> {
		const freezer = startFreezer({
			threads: threadsFor(targets.length),
			runDir,
			onEvent: (event) => events.push(event),
			signal: new AbortController().signal,
		});
		stack.defer(async () => {
			freezer.kill("SIGTERM");
			await freezer.exited;
		});
		await freezer.prepare({ jobId: "job-1", bootId: await readBootId(), targets, limitMs: 10_000 });
		return freezer;
	}

	function readLedger() {
		return ledgerSchema.parse(JSON.parse(readFileSync(join(runDir, "freezes", "job-1.json"), "utf8")));
	}

	const statesOf = (targets: readonly FreezeTarget[]) =>
		targets.map(({ superblock }) => readLedger().fileSystems.find((one) => one.superblock === superblock)?.state);

	function superblockOf(targets: readonly FreezeTarget[], { mountPoint }: LoopFileSystem): string {
		return targets.find((target) => target.mountPoint === mountPoint)?.superblock ?? "";
	}

	it("before all is frozen, or with what is not of the hold, it changes nothing", async () => {
		const [a, b] = [await fileSystem("a"), await fileSystem("b")];
		const targets = await targetsOf([a, b]);
		const freezer = await prepared(targets);
		expect(readLedger().deadlineAtMs).toBeUndefined();
		freezer.thawSome([superblockOf(targets, a)]);
		const frozen = await freezer.freeze(limits);
		freezer.thawSome([]);
		freezer.thawSome(["9:999"]);
		await sleep(100);
		expect(statesOf(targets)).toEqual(["frozen", "frozen"]);
		expect(readLedger().deadlineAtMs).toBeCloseTo(frozen.atMs + frozen.leftMs, 3);
		expect(await isWritable(a.mountPoint, 300)).toBe(false);
		const { fileSystems } = await freezer.thaw(5_000);
		expect(fileSystems.map(({ result }) => result)).toEqual(["thawed", "thawed"]);
	});

	it("lets these go, holds the others, and all are told at the end", async () => {
		const [a, b] = [await fileSystem("a"), await fileSystem("b")];
		const targets = await targetsOf([a, b]);
		const first = superblockOf(targets, a);
		const freezer = await prepared(targets);
		await freezer.freeze(limits);
		freezer.thawSome([first, first]);
		expect(await isWritable(a.mountPoint)).toBe(true);
		expect(await isWritable(b.mountPoint, 300)).toBe(false);
		expect(events.filter((event) => event.type === "fileSystem" && event.result === "thawed")).toMatchObject([
			{ superblock: first },
		]);
		const { cause, fileSystems } = await freezer.thaw(5_000);
		expect(cause).toBe("asked");
		expect(fileSystems.map(({ result }) => result)).toEqual(["thawed", "thawed"]);
		const [early, late] = [a, b].map((one) =>
			fileSystems.find(({ superblock }) => superblock === superblockOf(targets, one)),
		);
		expect(early?.endedAtMs).toBeLessThan(late?.startedAtMs ?? 0);
	});

	it("a rescuer leaves alone what was let go and is frozen by somebody else by now", async () => {
		const [a, b] = [await fileSystem("a"), await fileSystem("b")];
		const targets = await targetsOf([a, b]);
		const freezer = await prepared(targets);
		await freezer.freeze(limits);
		freezer.thawSome([superblockOf(targets, a)]);
		await poll(() => statesOf(targets)).toEqual(
			targets.map(({ mountPoint }) => (mountPoint === a.mountPoint ? "thawed" : "frozen")),
		);
		await freeze(a.mountPoint);
		freezer.kill("SIGKILL");
		await freezer.exited;
		expect(await thawFromLedgers(runDir)).toMatchObject([{ mountPoint: b.mountPoint, result: "thawed" }]);
		expect(await isWritable(b.mountPoint)).toBe(true);
		expect(await isWritable(a.mountPoint, 300)).toBe(false);
		expect(await thaw(a.mountPoint)).toBe(true);
	});

	it("an upper layer named without its lower one holds up nothing, and is thawed with that, by the deadline too", async () => {
		const lower = await fileSystem("lower", { sizeMiB: 128 });
		const upper = await fileSystem("upper", { inDir: lower.mountPoint });
		const other = await fileSystem("other");
		const targets = await targetsOf([lower, upper, other]);
		const freezer = await prepared(targets);
		await freezer.freeze({ holdLimitMs: 1_500, freezeLimitMs: 1_000, expedited: true });
		freezer.thawSome([superblockOf(targets, upper)]);
		freezer.thawSome([superblockOf(targets, other)]);
		expect(await isWritable(other.mountPoint)).toBe(true);
		const { cause, fileSystems } = await freezer.thawed;
		expect(cause).toBe("deadline");
		expect(fileSystems.map(({ result }) => result)).toEqual(["thawed", "thawed", "thawed"]);
		expect(await isWritable(upper.mountPoint)).toBe(true);
		expect((await freezer.exited).status).toBe(0);
	});
});

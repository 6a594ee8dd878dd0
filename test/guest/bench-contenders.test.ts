/** What the measurement of the freeze leans on: that it feels a freeze, and that the contenders touch nothing of others. */
import { mkdtemp, rm } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { fsfreezeContender } from "../../bench/freeze/fsfreeze-contender.ts";
import { feltBy } from "../../bench/freeze/gaps.ts";
import { startProbes } from "../../bench/freeze/probes.ts";
import { qemuGaContender } from "../../bench/freeze/qemu-ga-contender.ts";
import { startQemuGa } from "../../bench/freeze/qemu-ga-process.ts";
import { monotonicMs } from "../../bench/hold-once.ts";
import {
	freeze,
	type LoopFileSystem,
	makeLoopFileSystem,
	requireTools,
	startGuard,
	thaw,
} from "../fixtures/loop-file-system.ts";

const lacking = requireTools("root", "mkfs.ext4", "fsfreeze", "losetup");
const lackingQemuGa = lacking ?? requireTools("qemu-ga", "unshare", "setpriv");
const signal = new AbortController().signal;
const atOnce = async () => undefined;

describe.skipIf(lacking)(`contenders of the measurement${lacking ? ` (${lacking})` : ""}`, () => {
	let stack: AsyncDisposableStack;

	beforeEach(() => {
		stack = new AsyncDisposableStack();
	});
	afterEach(() => stack.disposeAsync());

	async function makeFolder(): Promise<string> {
		const folder = await mkdtemp("/dev/shm/stillpoint-test-bench-");
		stack.defer(() => rm(folder, { recursive: true, force: true }));
		stack.use(startGuard({ dir: folder, limitMs: 60_000, remove: [folder] }));
		return folder;
	}

	async function makeFileSystems(dir: string, ...names: string[]): Promise<LoopFileSystem[]> {
		const made: LoopFileSystem[] = [];
		for (const name of names)
			made.push(stack.use(await makeLoopFileSystem({ dir, fsType: "ext4", sizeMiB: 32, name })));
		return made;
	}

	test("a probe feels the freeze of its file system, and that of another one goes on", async () => {
		const points = (await makeFileSystems(await makeFolder(), "one", "other")).map(({ mountPoint }) => mountPoint);
		const [one = "", other = ""] = points;
		await using probes = await startProbes(points, signal);
		const fromMs = monotonicMs();
		await freeze(one);
		const frozenAtMs = monotonicMs();
		await sleep(400);
		const thawingAtMs = monotonicMs();
		expect(await thaw(one)).toBe(true);
		const frozen = { fromMs, untilMs: monotonicMs() };
		const [ofOne = [], ofOther = []] = await probes.read(fromMs, frozen.untilMs, signal);
		const heldMs = thawingAtMs - frozenAtMs;
		// Of a write that was done before the freeze the thread may hear in it.
		expect(feltBy([ofOne], frozen, frozen).frozenStallMs).toBeGreaterThan(heldMs / 2);
		expect(ofOne.filter((atMs) => atMs > frozenAtMs && atMs < thawingAtMs).length).toBeLessThanOrEqual(1);
		expect(ofOther.filter((atMs) => atMs > frozenAtMs && atMs < thawingAtMs).length).toBeGreaterThan(1);
		expect(await thaw(other)).toBe(false);
	});

	test("the loop of fsfreeze thaws what it froze, also when a freeze in between fails", async () => {
		const points = (await makeFileSystems(await makeFolder(), "one", "other")).map(({ mountPoint }) => mountPoint);
		const [one = "", other = ""] = points;
		await fsfreezeContender([one, other]).run(atOnce, signal);
		await expect(fsfreezeContender([one, "/nowhere", other]).run(atOnce, signal)).rejects.toThrow("/nowhere");
		expect([await thaw(one), await thaw(other)]).toEqual([false, false]);
	});

	describe.skipIf(lackingQemuGa)(`qemu-ga${lackingQemuGa ? ` (${lackingQemuGa})` : ""}`, () => {
		test("freezes and thaws ours, and leaves a freeze of somebody else's alone", async () => {
			const [foreign] = await makeFileSystems(await makeFolder(), "foreign");
			const folder = await makeFolder();
			const [ours] = await makeFileSystems(folder, "ours");
			await freeze(foreign?.mountPoint ?? "");
			const qemuGa = stack.use(await startQemuGa(folder, await makeFolder(), signal));
			const contender = await qemuGaContender(qemuGa, [ours?.mountPoint ?? ""]);
			const { frozen } = await contender.run(atOnce, signal);
			expect(frozen.untilMs).toBeGreaterThan(frozen.fromMs);
			expect(await thaw(foreign?.mountPoint ?? "")).toBe(true);
			expect(await thaw(ours?.mountPoint ?? "")).toBe(false);
		});

		test("is refused before the first freeze when it sees more than it is told to freeze", async () => {
			const folder = await makeFolder();
			const [ours, other] = await makeFileSystems(folder, "ours", "other");
			const qemuGa = stack.use(await startQemuGa(folder, await makeFolder(), signal));
			await expect(qemuGaContender(qemuGa, [])).rejects.toThrow("nothing to freeze");
			await expect(qemuGaContender(qemuGa, [ours?.mountPoint ?? ""])).rejects.toThrow(other?.mountPoint ?? "-");
		});
	});
});

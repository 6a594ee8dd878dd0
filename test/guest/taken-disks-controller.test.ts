/** Two disks of one machine, the real agent and controller: the copy of the large one holds up nobody on the small one. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { execa } from "execa";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type LoopFileSystem, makeLoopFileSystem, requireTools } from "../fixtures/loop-file-system.ts";
import { type Lane, type Machine, openLane } from "./fault-table/lane.ts";

const missing = requireTools("root", "mkfs.ext4", "losetup", "mount", "fsfreeze", "python3");
const scatteredMiB = 512;

type TwoDisks = Machine & { readonly small: LoopFileSystem; readonly large: LoopFileSystem };

describe.skipIf(missing)(`a controller that takes two disks${missing ? `: ${missing}` : ""}`, () => {
	let lane: Lane<TwoDisks>;
	beforeAll(async () => {
		lane = await openLane({ openMachine, limitMs: 120_000 });
	}, 60_000);
	afterAll(() => lane[Symbol.asyncDispose]());

	test("writers on the small one go on while the large one is copied, and both images verify", async () => {
		const { small, large } = lane.machine;
		await using onSmall = startStamping(join(small.mountPoint, "stamps"));
		await using onLarge = startStamping(join(large.mountPoint, "stamps"));
		const { jobId } = await lane.client.orderSnapshot(lane.agentId, { level: "file-system", holdLimitMs: 60_000 });
		const job = await lane.client.waitForJob(jobId);
		expect(job).toMatchObject({ state: "done", level: "file-system", report: { achieved: "file-system" } });
		const [first, second] = [small, large].map(({ uuid }) => job.report?.fileSystems.find((one) => one.uuid === uuid));
		for (const one of [first, second]) expect(one).toMatchObject({ result: "thawed", frozenUntilSnapshotEnded: true });
		expect(first?.heldMs).toBeLessThan(second?.heldMs ?? 0);
		expect(job.report?.window?.stallMs).toBeGreaterThanOrEqual(second?.heldMs ?? Number.POSITIVE_INFINITY);

		const held = longestGap(onLarge.stamps);
		expect(onSmall.stamps.filter((atMs) => atMs > held.fromMs && atMs < held.untilMs)).not.toEqual([]);
		const verification = await lane.client.verifyRecoveryPoint(job.recoveryPointId as string);
		expect(verification).toMatchObject({ looksLike: "file-system", agrees: true });
		expect(verification.findings.filter(({ status }) => status === "fail")).toEqual([]);
	});
});

async function openMachine(dir: string): Promise<TwoDisks> {
	await using undo = new AsyncDisposableStack();
	const make = (name: string, sizeMiB: number) => makeLoopFileSystem({ dir, fsType: "ext4", sizeMiB, name });
	const small = undo.use(await make("small", 16));
	const large = undo.use(await make("large", scatteredMiB + 40));
	await scatter(join(large.mountPoint, "scattered"));
	const owned = undo.move();
	return {
		small,
		large,
		images: [small, large].map(({ device, imagePath }) => ({ disk: device.replace("/dev/", ""), imagePath })),
		writable: [],
		[Symbol.asyncDispose]: () => owned.disposeAsync(),
	};
}

/**
 * Single blocks with holes between them, so that copying the image takes a read and a write for each: long, and of few
 * bytes. The holes are larger than what ext4 fills with zeros rather than to divide (extent_max_zeroout_kb, 32).
 */
async function scatter(path: string): Promise<void> {
	const program = `
import os, sys
fd = os.open(sys.argv[1], os.O_CREAT | os.O_WRONLY, 0o600)
os.posix_fallocate(fd, 0, ${scatteredMiB} << 20)
for block in range(0, ${scatteredMiB} << 8, 13):
    os.pwrite(fd, b"x" * 4096, block << 12)
os.fsync(fd)
`;
	await execa("python3", ["-c", program, path], { cwd: "/" });
}

/** Writes and syncs without end; the times (monotonic) at which it had. */
function startStamping(path: string): AsyncDisposable & { readonly stamps: readonly number[] } {
	const program = `
import os, sys, time
fd = os.open(sys.argv[1], os.O_CREAT | os.O_WRONLY, 0o600)
while True:
    os.pwrite(fd, b"x" * 64, 0)
    os.fdatasync(fd)
    print(time.monotonic() * 1000, flush=True)
    time.sleep(0.002)
`;
	const child = spawn("python3", ["-u", "-c", program, path], { stdio: ["ignore", "pipe", "ignore"], cwd: "/" });
	const gone = once(child, "exit");
	const stamps: number[] = [];
	createInterface(child.stdout).on("line", (line) => stamps.push(Number(line)));
	return {
		stamps,
		async [Symbol.asyncDispose]() {
			child.kill("SIGKILL");
			await gone;
		},
	};
}

function longestGap(stamps: readonly number[]): { fromMs: number; untilMs: number } {
	let longest = { fromMs: 0, untilMs: 0 };
	for (const [index, untilMs] of stamps.entries()) {
		const fromMs = stamps[index - 1] ?? untilMs;
		if (untilMs - fromMs > longest.untilMs - longest.fromMs) longest = { fromMs, untilMs };
	}
	return longest;
}

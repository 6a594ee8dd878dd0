/** The disk that is frozen carries all that the host and the extension write: package, settings, status, log. */
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { useAzureDisks } from "../fixtures/azure-disks.ts";
import { makeAzureGuest, readTold } from "../fixtures/azure-guest.ts";
import { type LoopFileSystem, requireTools } from "../fixtures/loop-file-system.ts";
import { findWindow, findWrites, parseTrace, type TracedCall } from "../fixtures/system-call-trace.ts";

const missing = requireTools("root", "mkfs.ext4", "losetup", "fsfreeze", "openssl", "strace");

describe.skipIf(missing)(`the window of a task${missing ? `: ${missing}` : ""}`, () => {
	const { made } = useAzureDisks({ machine: { fsType: "ext4", sizeMiB: 96 } });
	let dir: string;
	let disk: LoopFileSystem;

	beforeAll(async () => {
		dir = made.dir;
		disk = made.disks.machine;
	});

	test.each(["onlyGuest", "onlyHost"])(
		"%s: no write, no start and no connection in it, and the end is told",
		async (source) => {
			const folder = await mkdtemp("/dev/shm/stillpoint-test-");
			await using _folder = { [Symbol.asyncDispose]: () => rm(folder, { recursive: true }) };
			const trace = join(folder, "trace");
			const node = `strace -f -y -ttt -o ${trace} node`;
			const hostFolder = join(disk.mountPoint, source);
			await using guest = await makeAzureGuest(dir, [disk], { holdLimitMs: 15_000 }, { hostFolder, node });
			for (const blob of guest.blobs) blob.delayMs = 300;
			const status = await guest.run({ custom: { takeSnapshotFrom: source } });
			expect(status).toMatchObject({ status: "success", code: 1 });
			const heldMs = readTold(status).report?.window?.heldMs ?? 0;
			expect(heldMs).toBeGreaterThan(300);
			const calls = parseTrace(await readFile(trace, "utf8"));
			const window = findWindow(calls);
			if (window === undefined) throw new Error("the trace shows no freeze");
			expect(findWrites(calls, disk.mountPoint, { from: 0, until: window.from }), "the looking itself").not.toEqual([]);
			expect(findWrites(calls, disk.mountPoint, window)).toEqual([]);
			expect(findBeginnings(calls).length, "the looking itself").toBeGreaterThan(3);
			expect(findBeginnings(calls.filter(({ at }) => at > window.from && at < window.until))).toEqual([]);
		},
	);
});

/** New processes, programs and connections. A thread is none. */
function findBeginnings(calls: readonly TracedCall[]): string[] {
	return calls
		.filter(({ name, text }) => {
			if (/^(execve|execveat|fork|vfork|connect|socket)$/.test(name)) return true;
			return /^clone3?$/.test(name) && !text.includes("CLONE_THREAD");
		})
		.map(({ text }) => text);
}

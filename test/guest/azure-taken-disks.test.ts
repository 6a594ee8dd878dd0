/** A task of two disks whose blobs answer one long after the other: what was taken first need not wait. */
import { beforeAll, describe, expect, test } from "vitest";
import { useAzureDisks } from "../fixtures/azure-disks.ts";
import { makeAzureGuest, readTold } from "../fixtures/azure-guest.ts";
import { type LoopFileSystem, requireTools } from "../fixtures/loop-file-system.ts";

const missing = requireTools("root", "mkfs.ext4", "losetup", "fsfreeze", "openssl");
const slowMs = 900;

describe.skipIf(missing)(`the disks of a task${missing ? `: ${missing}` : ""}`, () => {
	const { made } = useAzureDisks({
		machine: { fsType: "ext4", sizeMiB: 24 },
		data: { fsType: "ext4", sizeMiB: 24 },
	});
	let disks: LoopFileSystem[];
	beforeAll(() => {
		disks = [made.disks.machine, made.disks.data];
	});

	async function heldMsOf(source: string): Promise<number[]> {
		await using guest = await makeAzureGuest(made.dir, disks, { holdLimitMs: 15_000 });
		const last = guest.blobs[1];
		if (last === undefined) throw new Error("the second disk has no blob");
		last.delayMs = slowMs;
		const status = await guest.run({ custom: { takeSnapshotFrom: source } });
		expect(status).toMatchObject({ status: "success", code: 1 });
		const { report } = readTold(status);
		expect(report?.fileSystems.every((one) => one.frozenUntilSnapshotEnded)).toBe(true);
		return disks.map(({ uuid }) => report?.fileSystems.find((one) => one.uuid === uuid)?.heldMs ?? 0);
	}

	test("are let go one by one when this machine takes them by their blobs", async () => {
		const [first = 0, second = 0] = await heldMsOf("onlyGuest");
		expect(second).toBeGreaterThanOrEqual(slowMs);
		expect(first).toBeLessThan(second - slowMs / 2);
	});

	test("and together when the host does, which answers once for all (negative control)", async () => {
		const [first = 0, second = 0] = await heldMsOf("onlyHost");
		expect(first).toBeGreaterThanOrEqual(slowMs);
		expect(second).toBeGreaterThanOrEqual(slowMs);
	});
});

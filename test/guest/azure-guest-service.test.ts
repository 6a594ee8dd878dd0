import { beforeAll, describe, expect, test } from "vitest";
import { useAzureDisks } from "../fixtures/azure-disks.ts";
import { type AzureGuest, makeAzureGuest, readTold } from "../fixtures/azure-guest.ts";
import { type LoopFileSystem, requireTools } from "../fixtures/loop-file-system.ts";
import { isWritable } from "../fixtures/writable.ts";

const missing = requireTools("root", "mkfs.ext4", "losetup", "fsfreeze", "openssl");

describe.skipIf(missing)(`a blob service that fails${missing ? `: ${missing}` : ""}`, () => {
	const { undo, made } = useAzureDisks({ one: { fsType: "ext4", sizeMiB: 32 }, two: { fsType: "ext4", sizeMiB: 32 } });
	let dir: string;
	let one: LoopFileSystem;
	let two: LoopFileSystem;
	let guest: AzureGuest;

	beforeAll(async () => {
		dir = made.dir;
		({ one, two } = made.disks);
		guest = undo.use(await makeAzureGuest(dir, [one, two], { holdLimitMs: 3_000 }));
	});

	test.each([
		["some of the disks fail", [{ status: 500 }, "take"], 761],
		["all are refused", [{ status: 403 }, { status: 403 }], 15],
		["too many at a time", [{ status: 409, word: "SnaphotOperationRateExceeded" }, "take"], 173],
		["too many at all", [{ status: 409, word: "SnapshotCountExceeded" }, "take"], 85],
		["it hangs up", ["drop", "drop"], 76],
		["no answer within the hold", ["hang", "hang"], 76],
	] as const)("%s: an error with its code, and all is thawed in time", async (_what, behaviours, code) => {
		for (const [lun, behaviour] of behaviours.entries()) setBehaviour(lun, behaviour);
		const status = await guest.run();
		const { report, inner } = readTold(status);
		expect(status).toMatchObject({ status: "error", code });
		expect(inner.vmHealthInfo.vmHealthStatusCode).toBe(code);
		expect(report).toMatchObject({ achieved: "none", error: { code: "snapshot-failed" } });
		expect(report?.fileSystems.map(({ result }) => result)).toEqual(["thawed", "thawed"]);
		for (const disk of [one, two]) expect(await isWritable(disk.mountPoint, 10_000)).toBe(true);
		for (const lun of [0, 1]) setBehaviour(lun, "take");
	});

	test("one that answers late is waited for", async () => {
		for (const blob of guest.blobs) blob.delayMs = 600;
		const status = await guest.run();
		for (const blob of guest.blobs) blob.delayMs = 0;
		expect(status).toMatchObject({ status: "success", code: 1 });
		expect(readTold(status).report?.window?.heldMs).toBeGreaterThan(600);
	});

	test("one that is not there keeps the freeze from being made", async () => {
		const nowhere = ["https://127.0.0.1:9/disks/x?sig=a", "https://127.0.0.1:9/disks/y?sig=b"];
		const status = await guest.run({ blobSASUri: nowhere });
		expect(status).toMatchObject({ status: "error", code: 76 });
		expect(readTold(status).report?.window).toBeUndefined();
	});

	function setBehaviour(lun: number, behaviour: AzureGuest["blobs"][number]["behaviour"]): void {
		const blob = guest.blobs[lun];
		if (blob !== undefined) blob.behaviour = behaviour;
	}
});

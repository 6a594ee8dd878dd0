/** Snapshots for a host that speaks only Azure's handler contract: settings in, status out, real disks in between. */
import { mkdtemp, readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { taskToken } from "../fakes/fake-azure.ts";
import { useAzureDisks } from "../fixtures/azure-disks.ts";
import { type AzureGuest, findSecrets, makeAzureGuest, readTold, type TaskChanges } from "../fixtures/azure-guest.ts";
import { startBusyWriter } from "../fixtures/busy-writer.ts";
import { type LoopFileSystem, requireTools } from "../fixtures/loop-file-system.ts";
import { nameOf } from "../fixtures/snapshot-asker.ts";
import { isWritable } from "../fixtures/writable.ts";

const missing = requireTools("root", "mkfs.ext4", "mkfs.xfs", "losetup", "fsfreeze", "openssl");

describe.skipIf(missing)(`as a guest of Azure's contract${missing ? `: ${missing}` : ""}`, () => {
	const { undo, made } = useAzureDisks({ ext4: { fsType: "ext4", sizeMiB: 64 }, xfs: { fsType: "xfs", sizeMiB: 320 } });
	let dir: string;
	let ext4: LoopFileSystem;
	let xfs: LoopFileSystem;
	let guest: AzureGuest;

	beforeAll(async () => {
		dir = made.dir;
		({ ext4, xfs } = made.disks);
		guest = undo.use(await makeAzureGuest(dir, [ext4, xfs]));
	});

	test("two busy disks are taken by their blobs, still, and said to be file-system consistent", async () => {
		await using _first = await startBusyWriter(ext4.mountPoint);
		await using _second = await startBusyWriter(xfs.mountPoint);
		const status = await guest.run();
		const { consistency, report, inner } = readTold(status);
		expect(status).toMatchObject({ status: "success", code: 1 });
		expect(consistency).toBe("fileSystemConsistent");
		expect(report).toMatchObject({ achieved: "file-system", because: ["no-applications"] });
		expect(inner.snapshotInfo).toMatchObject([{ isSuccessful: true }, { isSuccessful: true }]);
		expect(inner.vmHealthInfo).toEqual({ vmHealthState: 0, vmHealthStatusCode: 1 });
		expect(guest.azure.snapshots.map(({ blob }) => blob).sort()).toEqual(["disk0", "disk1"]);
		expect(guest.azure.snapshots[0]?.headers["x-ms-meta-backupkey"]).toBe("a value");
		if (report === undefined) throw new Error("no report");
		expect(await guest.verify(report)).toMatchObject({ looksLike: "file-system", agrees: true });
		await expect.poll(() => guest.azure.uploads.length, { timeout: 10_000 }).toBe(1);
		expect(JSON.parse(guest.azure.uploads[0] ?? "")).toMatchObject([{ status: { status: "success", code: 1 } }]);
		expect(guest.azure.uploads[0]).toMatch(/"timestampUTC":"\\\/Date\(\d+\)\\\/"/);
	});

	test("what is secret stands in no file, no log and no status afterwards", async () => {
		const status = await guest.run({ luns: [0] });
		expect(status.status).toBe("success");
		expect(findSecrets(guest.azure.requests), "the looking itself").toHaveLength(1);
		const { host, runFolder } = guest;
		const texts = await Promise.all([host.folder, host.logFolder, runFolder].map(readAll));
		expect(texts.join("").length).toBeGreaterThan(10_000);
		expect(findSecrets(texts)).toEqual([]);
		const [name = ""] = (await readdir(host.configFolder)).filter((one) => one.endsWith(".settings"));
		const settings = JSON.parse(await readFile(join(host.configFolder, name), "utf8"));
		expect(settings.runtimeSettings[0].handlerSettings).toMatchObject({ protectedSettings: "", publicSettings: {} });
	});

	test("of two disks only the one of the task is frozen and taken", async () => {
		const writable: boolean[] = [];
		guest.azure.onSnapshot = async () => {
			writable.push(await isWritable(ext4.mountPoint, 5_000), await isWritable(xfs.mountPoint, 1_000));
		};
		const { report } = readTold(await guest.run({ luns: [1] }));
		guest.azure.onSnapshot = undefined;
		expect(writable).toEqual([true, false]);
		expect(report?.fileSystems.map(({ mountPoint }) => mountPoint)).toEqual([xfs.mountPoint]);
		expect(report?.disks.filter(({ included }) => included).map(({ name }) => name)).toEqual([nameOf(xfs)]);
		expect(guest.azure.snapshots.at(-1)?.blob).toBe("disk1");
	});

	test("the host takes them by their LUNs, asked once before the freeze and once in it", async () => {
		const { host, requests } = guest.azure;
		host.bodies.length = 0;
		const before = requests.length;
		const status = await guest.run({ custom: { takeSnapshotFrom: "onlyHost" } });
		expect(status).toMatchObject({ status: "success", code: 1 });
		const asked = requests.slice(before).filter((one) => one.startsWith("POST"));
		expect(asked.map((one) => one.replace(/.*snapshot.(\w+)\?.*/, "$1"))).toEqual(["presnapshot", "dosnapshot"]);
		expect(host.bodies[1]).toMatchObject({ diskIds: [0, 1], snapshotTaskToken: taskToken });
		const { report, inner } = readTold(status);
		expect(report).toMatchObject({ achieved: "file-system" });
		expect(inner.snapshotInfo[0]?.snapshotUri).toMatch(/^https:\/\/host\/disk0\?snapshot=/);
		if (report === undefined) throw new Error("no report");
		expect(await guest.verify(report)).toMatchObject({ looksLike: "file-system", agrees: true });
	});

	test("an application that was quiet by its scripts makes it application consistent", async () => {
		const folder = await mkdtemp(join(dir, "scripts-"));
		const config = { scriptsFolder: folder };
		const command = ["/bin/true"];
		const dropIn = { version: 1, application: "shop", pre: { command }, post: { command } };
		await writeFile(join(folder, "shop.json"), JSON.stringify(dropIn), { mode: 0o600 });
		await using other = await makeAzureGuest(dir, [ext4], config);
		const status = await other.run();
		expect(status).toMatchObject({ status: "success", code: 0 });
		expect(readTold(status)).toMatchObject({ consistency: "applicationConsistent", report: { because: [] } });
		await writeFile(join(folder, "shop.json"), JSON.stringify({ ...dropIn, pre: { command: ["/bin/false"] } }));
		expect(await other.run()).toMatchObject({ status: "error", code: 300 });
	});

	test("without settings, or with the command install, it is ready and takes nothing", async () => {
		await using other = await makeAzureGuest(dir, [ext4]);
		for (const [sequenceNumber, more] of [
			[0, { settingsText: "" }],
			[1, { settingsText: '{"runtimeSettings":[]}' }],
			[2, { publicSettings: {} }],
		] as const) {
			await other.host.enable({ sequenceNumber, ...more });
			expect(await other.host.readStatus(sequenceNumber)).toMatchObject({ status: "success", code: 0 });
		}
		await expect(other.tasks()).rejects.toThrow("ENOENT");
		const { publicSettings } = other.task({ public: { commandToExecute: "install" } });
		await other.host.enable({ sequenceNumber: 3, publicSettings });
		expect(await other.host.readStatus(3)).toMatchObject({ status: "success", code: 0 });
		expect(other.azure.snapshots).toEqual([]);
	});

	test("a host that can't is passed over for the blobs before the freeze, and that is told", async () => {
		guest.azure.host.presnapshot = { status: 500, body: "no service" };
		const status = await guest.run({ custom: { takeSnapshotFrom: "firstHostThenGuest" }, luns: [0] });
		expect(status).toMatchObject({ status: "success", code: 1 });
		expect(status.message).toContain("presnapshot: the host answered 500");
		const refused = await guest.run({ custom: { takeSnapshotFrom: "onlyHost" }, luns: [0] });
		expect(refused).toMatchObject({ status: "error", code: 556 });
		expect(readTold(refused).report).toMatchObject({ achieved: "none", held: "none" });
		guest.azure.host.presnapshot = "take";
		guest.azure.host.dosnapshot = { status: 500 };
		expect(await guest.run({ custom: { takeSnapshotFrom: "onlyHost" }, luns: [0] })).toMatchObject({ code: 556 });
		guest.azure.host.dosnapshot = "take";
	});

	test("a snapshot that can't be shown to be of the disk is crash, which only a task that says so accepts", async () => {
		for (const blob of guest.blobs) blob.readable = false;
		const refused = await guest.run({ luns: [0] });
		expect(refused).toMatchObject({ status: "error", code: 121 });
		expect(readTold(refused)).toMatchObject({
			consistency: "none",
			report: { because: ["no-applications", "mapping-unproved"] },
		});
		const crash = { canTakeCrashConsistentSnapshot: true, backupRetryCount: 1 };
		const accepted = await guest.run({ luns: [0], custom: crash });
		expect(accepted).toMatchObject({ status: "success", code: 1 });
		expect(readTold(accepted).consistency).toBe("crashConsistent");
		expect(await guest.run({ custom: crash }), "of two disks").toMatchObject({ status: "error", code: 121 });
		for (const blob of guest.blobs) blob.readable = true;
	});

	test("a disk whose blob is another one's is never more than crash", async () => {
		const swapped = [guest.azure.uriOf("disk1"), guest.azure.uriOf("disk0")];
		const status = await guest.run({ blobSASUri: swapped });
		expect(status).toMatchObject({ status: "error", code: 121 });
		expect(readTold(status).report?.because).toContain("mapping-wrong");
	});

	test("the service's clock counts where the host tells it", async () => {
		const ageMs = 141 * 60_000;
		expect(await guest.run({ luns: [0], ageMs })).toMatchObject({ status: "error", code: 402 });
		guest.azure.host.responseTime = new Date(Date.now() - ageMs + 60_000).toISOString();
		const custom = { takeSnapshotFrom: "onlyHost" };
		expect(await guest.run({ luns: [0], ageMs, custom })).toMatchObject({ status: "success" });
		guest.azure.host.responseTime = new Date(Date.now() + ageMs).toISOString();
		expect(await guest.run({ luns: [0], custom })).toMatchObject({ status: "error", code: 402 });
		guest.azure.host.responseTime = undefined;
	});

	test.each([
		["a LUN without a disk", { luns: [0, 7] }, 17],
		["the disk of the system, that has no link here", { object: { includedDisks: { isOSDiskIncluded: true } } }, 17],
		["fewer addresses than disks", { blobSASUri: ["https://localhost/x"] }, 11],
		["another command", { public: { commandToExecute: "format" } }, 11],
		["an object that is no JSON", { public: { objectStr: "!!!" } }, 11],
	] as const)("%s is an error, and nothing is taken", async (_what, changes, code) => {
		const before = guest.azure.snapshots.length;
		const status = await guest.run(changes as TaskChanges);
		expect(status).toMatchObject({ status: "error", code });
		expect(readTold(status).report?.window).toBeUndefined();
		expect(guest.azure.snapshots.length).toBe(before);
	});

	test("settings that are cut short or can't be decrypted are errors with codes of their own", async () => {
		const { host, task } = guest;
		const whole = await host.settingsText({ sequenceNumber: 901, ...task() });
		await host.enable({ sequenceNumber: 901, settingsText: whole.slice(0, -20) });
		expect(await host.readStatus(901)).toMatchObject({ status: "error", code: 11 });
		const foreign = whole.replace(host.keys.thumbprint, "0".repeat(40));
		await host.enable({ sequenceNumber: 902, settingsText: foreign });
		expect(await host.readStatus(902)).toMatchObject({ status: "error", code: 16 });
	});
});

async function readAll(folder: string): Promise<string> {
	const entries = await readdir(folder, { recursive: true, withFileTypes: true });
	const files = entries.filter((entry) => entry.isFile() && !entry.parentPath.includes("compile-cache"));
	return (await Promise.all(files.map(({ name, parentPath }) => readFile(join(parentPath, name), "latin1")))).join(
		"\n",
	);
}

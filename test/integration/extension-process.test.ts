import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { InstalledExtension } from "../../agent/extension-host/installed-extension.ts";
import { type ExtensionProcess, startSnapshotCommand } from "../../agent/extension-host/run-snapshot.ts";
import type { SnapshotRequest } from "../../contracts/extension.ts";
import { findProcessIdentity, isSameProcessAlive } from "../../platform/linux/process-identity.ts";
import { poll } from "../fixtures/poll.ts";

/** Stands still with a child that, as the freezer, works when its stdin ends. */
const program = `
import { spawn } from "node:child_process";
const child = spawn("sh", ["-c", "cat > /dev/null; echo thawed > thawed"], { stdio: ["pipe", "ignore", "ignore"] });
import { renameSync, writeFileSync } from "node:fs";
writeFileSync("pid.new", String(child.pid));
renameSync("pid.new", "pid");
setInterval(() => {}, 1000);
`;

describe("an extension process that is ended", () => {
	let folder: string;
	let running: ExtensionProcess;
	let child: number;

	beforeEach(async () => {
		folder = mkdtempSync("/dev/shm/stillpoint-test-extension-");
		writeFileSync(join(folder, "snapshot.mjs"), program);
		const handlerManifest = { snapshotCommand: "node snapshot.mjs" };
		const extension = { name: "X", version: "1.0", folder, manifest: { handlerManifest } } as InstalledExtension;
		running = startSnapshotCommand(extension, {} as SnapshotRequest);
		await poll(() => existsSync(join(folder, "pid"))).toBe(true);
		child = Number(readFileSync(join(folder, "pid"), "utf8"));
	});
	afterEach(() => {
		running.kill();
		rmSync(folder, { recursive: true, force: true });
	});

	test("leaves its freezer the time to thaw", async () => {
		running.kill();
		expect((await running.exited).signal).toBe("SIGKILL");
		await poll(() => existsSync(join(folder, "thawed"))).toBe(true);
	});

	test("takes a child with it that does not end", async () => {
		const identity = findProcessIdentity(child);
		expect(identity && isSameProcessAlive(identity)).toBe(true);
		process.kill(child, "SIGSTOP");
		running.kill();
		await running.exited;
		await poll(() => identity && isSameProcessAlive(identity)).toBe(false);
		expect(existsSync(join(folder, "thawed"))).toBe(false);
	});
});

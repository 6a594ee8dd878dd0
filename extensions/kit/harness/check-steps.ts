/** What several checks look at. */
import { existsSync } from "node:fs";
import { cp, mkdtemp, readFile, stat, utimes, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { CheckRun, TestSettings } from "./check-run.ts";
import type { CommandResult, HandlerHost } from "./handler-host.ts";

export const lastStatusMs = 60_000;
const readLimitMs = 30_000;
const unseenMs = 1_000;
const longAgo = new Date(0);

export function faultOf(result: CommandResult): string | undefined {
	if (result.timedOut) return `${result.command} did not end in time and was killed`;
	if (result.exitCode === 0) return undefined;
	return `${result.command} ended with ${result.exitCode ?? "a signal"}: ${result.output.trim()}`;
}

/**
 * Until somebody has read the half-written file that is about to appear, as its access time tells; where the file
 * system keeps none, for a second.
 */
export async function untilRead(path: string): Promise<void> {
	const isOld = async () => (await stat(path)).atimeMs <= longAgo.getTime();
	const begun = performance.now();
	while (!existsSync(path) && performance.now() - begun < readLimitMs) await sleep(5);
	await utimes(path, longAgo, new Date());
	await readFile(path);
	if (await isOld()) return sleep(unseenMs);
	await utimes(path, longAgo, new Date());
	while ((await isOld()) && performance.now() - begun < readLimitMs) await sleep(10);
	await sleep(100);
}

export async function endFault(host: HandlerHost, sequenceNumber: number, settings: TestSettings) {
	const status = await host.waitForStatus(sequenceNumber, { limitMs: settings.statusLimitMs ?? lastStatusMs });
	return status.status === "error" ? `status ${sequenceNumber} is error ${status.code}: ${status.message}` : undefined;
}

/** A job may be started before the fault is found: its end counts. */
export async function silenceOn(
	host: HandlerHost,
	sequenceNumber: number,
	settings: TestSettings,
	result: CommandResult,
) {
	if (result.timedOut) return "enable did not end in time";
	if (result.exitCode !== 0) return undefined;
	const status = await host
		.waitForStatus(sequenceNumber, { limitMs: settings.statusLimitMs ?? 10_000 })
		.catch(() => undefined);
	if (status?.status === "error") return undefined;
	return status === undefined ? "exit status 0 and no end in the status file" : `exit status 0 and ${status.status}`;
}

export async function makeNextVersion({ packageFolder, workFolder }: CheckRun): Promise<string> {
	const folder = await mkdtemp(join(workFolder, "next-"));
	await cp(packageFolder, folder, { recursive: true, verbatimSymlinks: true });
	const path = join(folder, "HandlerManifest.json");
	const manifest = JSON.parse(await readFile(path, "utf8"));
	const [major = "1"] = String(manifest[0].version).split(".");
	manifest[0].version = `${major}.9999`;
	await writeFile(path, JSON.stringify(manifest));
	return folder;
}

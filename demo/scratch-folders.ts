import { mkdtemp, rm } from "node:fs/promises";
import { join, resolve } from "node:path";
import { execa } from "execa";
import { startGuard } from "../test/fixtures/guard.ts";
import type { Folders } from "./programs.ts";

/** Longer than any run takes; after it the guard thaws, unmounts and removes what is left. */
const guardLimitMs = 10 * 60_000;

/**
 * Folders that go away with the run. The base lies where only root can change anything above it, because scripts and
 * packages are trusted by that. The guard cleans up when the demo itself is killed.
 */
export async function makeScratchFolders(keep: boolean): Promise<Folders & AsyncDisposable> {
	await using undo = new AsyncDisposableStack();
	const base = await mkdtemp("/var/lib/stillpoint-start-");
	undo.defer(() => rm(base, { recursive: true, force: true }));
	const run = await mkdtemp(join(await tmpfs(), "stillpoint-start-"));
	undo.defer(() => rm(run, { recursive: true, force: true }));
	undo.use(startGuard({ dir: base, limitMs: keep ? 24 * 3_600_000 : guardLimitMs, remove: [base, run] }));
	const owned = undo.move();
	return {
		base,
		run,
		dist: join(base, "dist"),
		[Symbol.asyncDispose]: () => owned.disposeAsync(),
	};
}

/** /run where it is tmpfs, as it is on every machine with systemd; else /dev/shm. */
async function tmpfs(): Promise<string> {
	const { stdout } = await execa("stat", ["-f", "-c", "%T", "/run"], { reject: false });
	return stdout.trim() === "tmpfs" ? "/run" : "/dev/shm";
}

const root = resolve(import.meta.dirname, "..");

/** Bundles the sources into a folder of its own, which stays as it is when somebody bundles again. */
export async function bundle(to: string, signal: AbortSignal): Promise<void> {
	const rolldown = join(root, "node_modules/rolldown/bin/cli.mjs");
	await execa(process.execPath, [rolldown, "-c", "rolldown.config.ts", "--log-level", "warn"], {
		cwd: root,
		cancelSignal: signal,
		env: { STILLPOINT_DIST: to },
		stderr: "inherit",
	});
}

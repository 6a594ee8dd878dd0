/** `npm start`, as a user runs it: the outcome, the document, and that nothing is left behind, however it ends. */
import { spawn } from "node:child_process";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { execa } from "execa";
import { beforeAll, describe, expect, test } from "vitest";
import { requireTools } from "../fixtures/loop-file-system.ts";

const missing = requireTools("root", "mkfs.ext4", "mkfs.xfs", "mkfs.btrfs");
const entry = join(import.meta.dirname, "../../demo/start.ts");

/** Scratch folders of runs that are not ours. */
const others: string[] = [];

/** What a run of the demo could leave: folders, mounts, loop devices and processes that carry its name. */
async function leftovers(): Promise<string[]> {
	const folders = await Promise.all(
		["/var/lib", "/run", "/dev/shm"].map(async (folder) =>
			(await readdir(folder)).filter((name) => name.startsWith("stillpoint-start-")).map((name) => join(folder, name)),
		),
	);
	const mounts = (await readFile("/proc/self/mountinfo", "utf8"))
		.split("\n")
		.filter((line) => line.includes("/stillpoint-start-"));
	const { stdout } = await execa("losetup", ["--list", "--noheadings", "--output", "NAME,BACK-FILE"]);
	const loops = stdout.split("\n").filter((line) => line.includes("/stillpoint-start-"));
	const processes: string[] = [];
	for (const pid of (await readdir("/proc")).filter((name) => /^\d+$/.test(name))) {
		const words = await readFile(`/proc/${pid}/cmdline`, "utf8").catch(() => "");
		if (words.includes("/stillpoint-start-") && !words.includes("stillpoint-test-guard"))
			processes.push(words.replaceAll("\0", " "));
	}
	return [...folders.flat(), ...mounts, ...loops, ...processes].filter(
		(one) => !others.some((name) => one.includes(name)),
	);
}

async function nothingLeft(limitMs: number): Promise<string[]> {
	const until = performance.now() + limitMs;
	for (;;) {
		const left = await leftovers();
		if (left.length === 0 || performance.now() > until) return left;
		await sleep(250);
	}
}

beforeAll(async () => {
	const found = (await leftovers()).flatMap((one) => /stillpoint-start-\w{6}/.exec(one)?.[0] ?? []);
	others.push(...new Set(found));
});

describe.skipIf(missing)(`npm start${missing ? `: ${missing}` : ""}`, () => {
	test("labels and truth agree, and nothing is left behind", async () => {
		const result = await execa(process.execPath, [entry, "--json"], { reject: false });
		const document = JSON.parse(result.stdout.trim().split("\n").at(-1) ?? "");
		expect(document).toMatchObject({
			schemaVersion: 1,
			ok: true,
			faults: [],
			good: {
				job: { state: "done", level: "application", report: { achieved: "application" } },
				verification: { label: "application", looksLike: "file-system", agrees: true },
			},
			bad: {
				job: { state: "done", level: "crash" },
				verification: { label: "crash", looksLike: "crash", agrees: true },
			},
		});
		expect(document.good.writers).toHaveLength(6);
		expect(document.good.job.report.fileSystems).toHaveLength(5);
		expect(result.exitCode).toBe(0);
		expect(await nothingLeft(5_000)).toEqual([]);
	});

	test.each([
		["SIGINT", 130],
		["SIGTERM", 143],
		["SIGKILL", null],
	] as const)("ended by %s in the middle, it leaves nothing behind", async (signal, status) => {
		const child = spawn(process.execPath, [entry], { stdio: ["ignore", "pipe", "ignore"], detached: true });
		const ended = new Promise<number | null>((resolve) => child.once("exit", resolve));
		const began = await new Promise<boolean>((resolve) => {
			child.stdout.on("data", (text: Buffer) => text.includes("Snapshot 1") && resolve(true));
			child.once("exit", () => resolve(false));
		});
		expect(began).toBe(true);
		await sleep(1_900);
		expect((await leftovers()).length).toBeGreaterThan(0);
		// A terminal and a service manager signal the whole process group, the writers with it.
		process.kill(signal === "SIGKILL" ? (child.pid as number) : -(child.pid as number), signal);
		expect(await ended).toBe(status);
		expect(await nothingLeft(20_000)).toEqual([]);
	});

	test("without root it says what it needs and ends with its status", async () => {
		const result = await execa("setpriv", ["--reuid=65534", "--clear-groups", process.execPath, entry, "--json"], {
			reject: false,
		});
		expect(result.exitCode).toBe(69);
		expect(JSON.parse(result.stdout)).toMatchObject({ ok: false, error: { code: "root-required" } });
	});

	test("an unknown option is refused", async () => {
		const result = await execa(process.execPath, [entry, "--freeze-harder"], { reject: false });
		expect(result.exitCode).toBe(2);
		expect(result.stderr).toContain("usage-invalid");
	});
});

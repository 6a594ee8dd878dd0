/** `npm start`, as a user runs it: the outcome, the document, and that nothing is left behind, however it ends. */
import { type ChildProcess, spawn } from "node:child_process";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { execa } from "execa";
import { beforeAll, describe, expect, test } from "vitest";
import { requireTools } from "../fixtures/loop-file-system.ts";

const missing = requireTools("root", "mkfs.ext4", "mkfs.xfs", "mkfs.btrfs");
const entry = join(import.meta.dirname, "../../demo/start.ts");
const executable = join(import.meta.dirname, "../../command-line/stillpoint.ts");

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

/** Whether the text came on stdout or stderr before the process ended. */
function heard(child: ChildProcess, text: string): Promise<boolean> {
	return new Promise((resolve) => {
		for (const stream of [child.stdout, child.stderr]) {
			stream?.on("data", (chunk: Buffer) => chunk.includes(text) && resolve(true));
		}
		child.once("exit", () => resolve(false));
	});
}

/** Runs the demo where the programs are no programs: a mount namespace with empty files in their places. */
async function withoutPrograms(names: readonly string[]) {
	const paths = await Promise.all(names.map(async (name) => (await execa("which", [name])).stdout));
	const hide = paths.map((path) => `mount --bind /dev/null ${path}`).join(" && ");
	return execa("unshare", ["--mount", "sh", "-c", `${hide} && exec "$0" "$@"`, process.execPath, entry, "--json"], {
		reject: false,
	});
}

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
		expect(document.good.job.report.window.predictedMs).toBeGreaterThan(0);
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
		// In the midst of the hold, or as near to it as two processes can be.
		expect(await heard(child, "  taking")).toBe(true);
		expect((await leftovers()).length).toBeGreaterThan(0);
		// A terminal and a service manager signal the whole process group, the writers with it.
		process.kill(signal === "SIGKILL" ? (child.pid as number) : -(child.pid as number), signal);
		expect(await ended).toBe(status);
		expect(await nothingLeft(20_000)).toEqual([]);
	});

	test("with --keep all goes on, writers too, until it is interrupted; the suggested commands work", async () => {
		const child = spawn(process.execPath, [entry, "--keep", "--json"], { stdio: ["ignore", "pipe", "pipe"] });
		const ended = new Promise<number | null>((resolve) => child.once("exit", resolve));
		let output = "";
		child.stdout.on("data", (text: Buffer) => {
			output += text;
		});
		let said = "";
		child.stderr.on("data", (text: Buffer) => {
			said += text;
		});
		expect(await heard(child, "controller verify")).toBe(true);
		expect(JSON.parse(output)).toMatchObject({ ok: true });
		const suggested = said.split("\n").filter((line) => line.startsWith("  npx stillpoint "));
		expect(suggested.length).toBeGreaterThanOrEqual(5);
		for (const line of suggested) {
			const words = line.trim().split(" ").slice(2);
			const result = await execa(process.execPath, [executable, ...words, "--json"], { reject: false });
			// Its last snapshot is the one that is bad on purpose.
			const exitCode = words[0] === "status" ? 3 : 0;
			expect([words.join(" "), result.exitCode]).toEqual([words.join(" "), exitCode]);
		}
		const writing = (await leftovers()).filter((one) => one.includes("demo/writer.ts"));
		expect(writing.length).toBe(6);
		child.kill("SIGINT");
		expect(await ended).toBe(0);
		expect(await nothingLeft(20_000)).toEqual([]);
	});

	test("where mkfs.xfs and mkfs.btrfs are missing it says how to get them and does without", async () => {
		const result = await withoutPrograms(["mkfs.xfs", "mkfs.btrfs"]);
		expect(result.stderr).toContain("apt-get install xfsprogs");
		expect(result.stderr).toContain("apt-get install btrfs-progs");
		expect(JSON.parse(result.stdout)).toMatchObject({ ok: true, good: { job: { level: "application" } } });
		expect(result.exitCode).toBe(0);
	});

	test("where a program is missing that it cannot do without, it names the package", async () => {
		const result = await withoutPrograms(["mkfs.ext4"]);
		expect(result.exitCode).toBe(69);
		const { error } = JSON.parse(result.stdout);
		expect(error).toMatchObject({ code: "tool-missing" });
		expect(error.message).toContain("apt-get install e2fsprogs");
	});

	test("without root it says what it needs and ends with its status", async () => {
		const result = await execa("setpriv", ["--reuid=65534", "--clear-groups", process.execPath, entry, "--json"], {
			reject: false,
		});
		expect(result.exitCode).toBe(5);
		expect(JSON.parse(result.stdout)).toMatchObject({ ok: false, error: { code: "root-required" } });
	});

	test("an unknown option is refused", async () => {
		const result = await execa(process.execPath, [entry, "--freeze-harder"], { reject: false });
		expect(result.exitCode).toBe(2);
		expect(result.stderr).toContain("usage-invalid");
	});
});

import { cp, mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { execa } from "execa";
import { beforeAll, describe, expect, test } from "vitest";
import type { OrderInput } from "../../contracts/order.ts";
import { type LoopFileSystem, requireTools } from "../fixtures/loop-file-system.ts";
import { poll } from "../fixtures/poll.ts";
import { isWritable, takeSnapshot, toFrozen } from "../fixtures/snapshot-asker.ts";
import { useSnapshotBench } from "../fixtures/snapshot-bench.ts";
import type { TestHostOptions } from "../fixtures/snapshot-host.ts";

const missing = requireTools("root", "mkfs.ext4", "losetup", "mount", "fsfreeze", "pgrep");

describe.skipIf(missing)(`applications in a job${missing ? `: ${missing}` : ""}`, () => {
	const bench = useSnapshotBench();
	const { start, defer } = bench;
	let one: LoopFileSystem;
	beforeAll(() => {
		one = bench.one;
	});

	describe("applications", () => {
		let scripts: string;

		test("that are all proved make the snapshot application-consistent", async () => {
			await configure({ pair: pair("pair", 1), session: session("holds.sh", 2) });
			const host = await start([one], application, withScripts());
			await toFrozen(host);
			expect((await host.event("frozen")).worth).toBe("application");
			const report = await takeSnapshot(host, [one]);
			expect(report).toMatchObject({ achieved: "application", because: [] });
			expect(report.scripts.map(({ name, phase }) => `${name} ${phase}`)).toEqual([
				"pair pre",
				"session session",
				"pair post",
			]);
			expect(await lines()).toEqual(["pair pre ", "session ready", "session release snapshot", "pair post snapshot"]);
		});

		test("none configured: file-system at best, and not even begun where more is wanted", async () => {
			await configure({});
			const strict = await start([one], { ...application, acceptLevel: "application" }, withScripts());
			const { error } = await strict.report();
			expect(error?.code).toBe("level-unreachable");
			expect(error?.message).toContain("No application is configured");
			expect(strict.events.some(({ type }) => type === "targets")).toBe(false);
			const host = await start([one], application, withScripts());
			await toFrozen(host);
			const report = await takeSnapshot(host, [one]);
			expect(report).toMatchObject({ achieved: "file-system", because: ["no-applications"] });
		});

		test("whose pre fails: nothing is frozen, and post runs for what was started", async () => {
			await configure({
				first: pair("first", 1),
				second: { ...pair("second", 2), pre: { command: ["SCRIPTS/exits-3.sh"] } },
			});
			const host = await start([one], application, withScripts());
			await host.event("prepared");
			host.tell({ type: "freeze", jobId: host.jobId });
			const report = await host.report();
			expect(report.error?.code).toBe("script-failed");
			expect(await lines()).toEqual(["first pre ", "second post no-snapshot", "first post no-snapshot"]);
			expect(host.events.some(({ type }) => type === "freezing")).toBe(false);
		});

		test("that may fail lower the level only", async () => {
			await configure({
				shop: { ...pair("shop", 1), onFailure: "continue", pre: { command: ["SCRIPTS/exits-3.sh"] } },
			});
			const host = await start([one], application, withScripts());
			await toFrozen(host);
			const report = await takeSnapshot(host, [one]);
			expect(report).toMatchObject({ achieved: "file-system", because: ["script-failed"] });
			expect(report.error).toBeUndefined();
		});

		test("that may fail lower the level only where the order accepts that: else nothing is frozen", async () => {
			await configure({
				first: pair("first", 1),
				shop: { ...pair("shop", 2), onFailure: "continue", pre: { command: ["SCRIPTS/exits-3.sh"] } },
				last: pair("last", 3),
			});
			const host = await start([one], { ...application, acceptLevel: "application" }, withScripts());
			await host.event("prepared");
			host.tell({ type: "freeze", jobId: host.jobId });
			const report = await host.report();
			expect(report.error).toMatchObject({ code: "script-failed", message: expect.stringContaining("shop") });
			expect(await lines()).toEqual(["first pre ", "shop post no-snapshot", "first post no-snapshot"]);
			expect(host.events.some(({ type }) => type === "freezing")).toBe(false);
		});

		test("that are only told afterwards prove nothing, in the hold and in the report", async () => {
			await configure({ told: { ...pair("told", 1), pre: undefined } });
			const host = await start([one], application, withScripts());
			await toFrozen(host);
			expect((await host.event("frozen")).worth).toBe("file-system");
			const report = await takeSnapshot(host, [one]);
			expect(report).toMatchObject({ achieved: "file-system", because: ["no-applications"] });
			expect(await lines()).toEqual(["told post snapshot"]);
		});

		test("cancelled while a pre is tried again and again are told that there is no snapshot", async () => {
			const pre = { command: ["SCRIPTS/fails-and-writes-line.sh", "WORDS"], retries: 10 };
			await configure({ shop: { ...pair("shop", 1), pre } });
			const host = await start([one], application, withScripts());
			await host.event("prepared");
			host.tell({ type: "freeze", jobId: host.jobId });
			await poll(async () => (await lines()).length).toBeGreaterThan(1);
			host.tell({ type: "cancel", jobId: host.jobId, code: "cancelled" });
			const report = await host.report();
			expect(report).toMatchObject({ achieved: "none", error: { code: "cancelled" } });
			expect((await lines()).at(-1)).toBe("shop post no-snapshot");
			expect((await lines()).length).toBeLessThan(12);
		});

		test("a session that dies while frozen ends the hold at once", async () => {
			const word = join("/dev/shm", `stillpoint-test-die-${process.pid}`);
			defer(() => rm(word, { force: true }));
			await configure({ session: { ...session("dies-when-told.sh", 1), args: undefined } }, [word]);
			const host = await start([one], { ...application, holdLimitMs: 60_000 }, withScripts());
			await toFrozen(host);
			await writeFile(word, "");
			const report = await host.report();
			expect(report.error?.code).toBe("script-hold-lost");
			expect(await isWritable(one)).toBe(true);
		});

		test("a session that may fail and dies while frozen lowers the level, and the asker keeps its window", async () => {
			const word = join("/dev/shm", `stillpoint-test-die-${process.pid}-2`);
			defer(() => rm(word, { force: true }));
			await configure({ session: { ...session("dies-when-told.sh", 1), onFailure: "continue" } }, [word]);
			const host = await start([one], { ...application, holdLimitMs: 60_000 }, withScripts());
			await toFrozen(host);
			await writeFile(word, "");
			const script = join(scripts, "dies-when-told.sh");
			await poll(async () => (await execa("pgrep", ["-f", script], { reject: false })).stdout).toBe("");
			const report = await takeSnapshot(host, [one]);
			expect(report).toMatchObject({ achieved: "file-system", because: ["script-hold-lost"] });
			expect(report.error).toBeUndefined();
		});

		test("a bad drop-in file fails the job by name", async () => {
			await configure({ shop: { version: 1, application: "shop", pre: { command: ["relative"] } } });
			const host = await start([one], application, withScripts());
			const report = await host.report();
			expect(report.error?.code).toBe("script-config-invalid");
			expect(report.error?.message).toContain("shop.json");
			expect(report.error?.message).toContain("pre.command");
		});

		test("a script that others could change is not run", async () => {
			await configure({ pair: pair("pair", 1) });
			await execa("chmod", ["o+w", join(scripts, "writes-line.sh")]);
			const host = await start([one], application, withScripts());
			await host.event("prepared");
			host.tell({ type: "freeze", jobId: host.jobId });
			expect((await host.report()).error?.code).toBe("script-untrusted");
			expect(await lines()).toEqual([]);
		});

		test("asked for file-system, no script is run", async () => {
			await configure({ pair: pair("pair", 1) });
			const host = await start([one], {}, withScripts());
			await toFrozen(host);
			expect(await takeSnapshot(host, [one])).toMatchObject({ achieved: "file-system", because: [], scripts: [] });
			expect(await lines()).toEqual([]);
		});

		const application: Partial<OrderInput> = { level: "application" };

		async function configure(files: Record<string, Record<string, unknown>>, words?: string[]): Promise<void> {
			scripts = await mkdtemp(join(bench.dir, "scripts-"));
			await cp(join(import.meta.dirname, "../fixtures/scripts"), scripts, { recursive: true });
			await execa("chmod", ["-R", "u+rwX,go-w", scripts]);
			await execa("chown", ["-R", "0:0", scripts]);
			await mkdir(join(scripts, "scripts.d"));
			for (const [name, content] of Object.entries(files)) {
				const text = JSON.stringify(content)
					.replaceAll("SCRIPTS", scripts)
					.replaceAll('"WORDS"', (words ?? [join(scripts, "lines"), name]).map((word) => JSON.stringify(word)).join());
				await writeFile(join(scripts, "scripts.d", `${name}.json`), text);
			}
		}

		function pair(name: string, position: number) {
			const command = ["SCRIPTS/writes-line.sh", "WORDS"];
			return { version: 1, application: name, order: position, pre: { command }, post: { command } };
		}

		function session(script: string, position: number): Record<string, unknown> {
			return {
				version: 1,
				application: "session",
				order: position,
				session: { command: [`SCRIPTS/${script}`, "WORDS"] },
			};
		}

		function withScripts(): Partial<TestHostOptions> {
			return { request: { scriptsFolder: join(scripts, "scripts.d") } };
		}

		async function lines(): Promise<string[]> {
			const text = await readFile(join(scripts, "lines"), "utf8").catch(() => "");
			return text.split("\n").slice(0, -1);
		}
	});
});

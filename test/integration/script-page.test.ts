import { execFileSync, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { ApplicationScripts } from "../../extensions/vm-snapshot-linux/script-runner/application-scripts.ts";
import { Applications } from "../../extensions/vm-snapshot-linux/script-runner/applications.ts";
import { dryRun } from "../../extensions/vm-snapshot-linux/script-runner/dry-run.ts";
import { checkTrust } from "../../extensions/vm-snapshot-linux/script-runner/prepare-applications.ts";
import { readDropIns } from "../../extensions/vm-snapshot-linux/script-runner/sources/read-drop-ins.ts";
import { openUndoList } from "../../extensions/vm-snapshot-linux/script-runner/undo-list.ts";
import { requireTools } from "../fixtures/required-tools.ts";
import { scriptJob } from "../fixtures/script-bench.ts";

const lacking = requireTools("root", "flock");

describe.skipIf(lacking)(`the examples of docs/scripts.md${lacking ? ` (${lacking})` : ""}`, () => {
	let base: string;
	let scripts: readonly ApplicationScripts[];
	let fileSystems: { mountPoint: string; superblock: string }[];

	/** As an admin copies them; where the page says /etc, /opt and /srv, a folder of this test. */
	beforeAll(async () => {
		base = mkdtempSync("/var/lib/stillpoint-test-page-");
		const page = readFileSync(join(import.meta.dirname, "../../docs/scripts.md"), "utf8");
		const blocks = [...page.matchAll(/^```\w+ file=(\S+)\n([\s\S]*?)^```$/gm)];
		expect(blocks.length).toBe(4);
		for (const [, file = "", text = ""] of blocks) {
			const path = join(base, file);
			mkdirSync(dirname(path), { recursive: true, mode: 0o755 });
			writeFileSync(path, text.replaceAll(/(?<![\w.])\/(opt|etc|srv)\//g, `${base}/$1/`), { mode: 0o755 });
		}
		for (const name of ["shop", "till"]) mkdirSync(join(base, "srv", name), { recursive: true });
		mkdirSync(join(base, "run"), { mode: 0o700 });
		const read = await readDropIns(join(base, "etc/stillpoint/scripts.d"), checkTrust);
		expect(read.bad).toEqual([]);
		scripts = read.scripts;
		const mountPoint = execFileSync("stat", ["-c", "%m", base], { encoding: "utf8" }).trim();
		fileSystems = [{ mountPoint, superblock: "8:1" }];
	});
	afterAll(() => rmSync(base, { recursive: true, force: true }));

	const inSrv = (path: string) => join(base, "srv", path);
	const isLocked = () => spawnSync("flock", ["--nonblock", inSrv("till/lock"), "true"]).status !== 0;
	function make(given: readonly ApplicationScripts[] = scripts) {
		const job = { ...scriptJob, fileSystems };
		const runFolder = join(base, "run");
		return new Applications(given, { job, checkTrust, runFolder }, openUndoList(runFolder, job));
	}
	const named = (name: string) => scripts.filter(({ application }) => application === name);

	test("make their applications quiet, and prove it", async () => {
		const all = make();
		await all.quiet(AbortSignal.timeout(60_000));
		expect(existsSync(inSrv("shop/pause"))).toBe(true);
		expect(isLocked()).toBe(true);
		await all.resume("snapshot");
		expect(existsSync(inSrv("shop/pause"))).toBe(false);
		expect(isLocked()).toBe(false);
		expect(all.evidence().map(({ proved }) => proved)).toEqual([true, true]);
		expect(all.reports.find(({ phase }) => phase === "post")?.outputTail).toBe("the shop goes on: snapshot\n");
	});

	test("try out without changing anything, and say what would not work", async () => {
		const options = { runFolder: join(base, "run") };
		const [shop] = named("shop");
		if (shop === undefined) throw new Error("no shop");
		const good = await dryRun(shop, { ...scriptJob, fileSystems }, options);
		expect(good.map(({ error }) => error)).toEqual([undefined, undefined]);
		expect(existsSync(inSrv("shop/pause"))).toBe(false);
		const [elsewhere] = await dryRun(shop, { ...scriptJob, fileSystems: [] }, options);
		expect(elsewhere).toMatchObject({ exitCode: 66, outputTail: expect.stringContaining("on no file system") });
	});

	test("a shop that does not finish is let go on", async () => {
		writeFileSync(inSrv("shop/busy"), "");
		const [shop] = named("shop");
		if (shop?.pre === undefined) throw new Error("no shop");
		const all = make([{ ...shop, pre: { ...shop.pre, deadlineMs: 500 } }]);
		await expect(all.quiet(AbortSignal.timeout(60_000))).rejects.toMatchObject({ code: "script-timeout" });
		await all.resume("no-snapshot");
		expect(existsSync(inSrv("shop/pause"))).toBe(false);
		rmSync(inSrv("shop/busy"));
	});

	test("a lock whose file is replaced was not held", async () => {
		const all = make(named("till"));
		await all.quiet(AbortSignal.timeout(60_000));
		writeFileSync(inSrv("till/new"), "");
		renameSync(inSrv("till/new"), inSrv("till/lock"));
		await all.resume("snapshot");
		expect(all.evidence()).toMatchObject([{ proved: false, holdLost: true }]);
		expect(all.reports[0]?.error?.message).toContain("was replaced");
	});
});

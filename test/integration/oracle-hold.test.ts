/** With a stand-in for sqlplus that answers as documented: no real Oracle database was had. */
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { makeClientFolder } from "../fixtures/fake-client.ts";
import { type HoldScript, startHoldScript } from "../fixtures/hold-script.ts";
import { poll } from "../fixtures/poll.ts";
import { processTree } from "../fixtures/process-states.ts";
import { requireTools } from "../fixtures/required-tools.ts";

const missing = requireTools("root");

describe.skipIf(missing)(`Oracle held${missing ? `: ${missing}` : ""}`, () => {
	let stack: AsyncDisposableStack;
	let folder: string;
	let stateFile: string;
	beforeEach(() => {
		stack = new AsyncDisposableStack();
		folder = mkdtempSync("/dev/shm/stillpoint-test-oracle-");
		stack.defer(() => rmSync(folder, { recursive: true, force: true }));
		stateFile = join(folder, "state.json");
		const files = [1, 2].map((number) => join(folder, `file-${number}.dbf`));
		for (const file of files) writeFileSync(file, "");
		writeFileSync(join(folder, "oratab"), "# comment\n+ASM:/grid:N\n*:/none:N\nSHOP:/opt/oracle/19:Y\n");
		const modes = [1, 2].map((file) => ({ file, status: "NOT ACTIVE", change: "6000", time: "2026-11-20 11:00:00" }));
		write({ openMode: "READ WRITE", logMode: "ARCHIVELOG", role: "PRIMARY", controlFile: 9, files, modes });
	});
	afterEach(() => stack.disposeAsync());

	const read = () => JSON.parse(readFileSync(stateFile, "utf8"));
	function write(state: object): void {
		writeFileSync(stateFile, JSON.stringify(state));
	}
	function change(fields: object): void {
		write({ ...read(), ...fields });
	}
	function hold(...args: (string | object)[]): HoldScript {
		const clients = makeClientFolder(folder, "sqlplus", "fake-sqlplus.mjs");
		const words = ["--client-folder", clients, "--os-user", "root", "--oratab", join(folder, "oratab")];
		const own = args.filter((one) => typeof one === "string");
		const input = args.find((one) => typeof one === "object") ?? {};
		const all = [...words, "--mark-folder", join(folder, "marks"), ...own];
		return stack.use(startHoldScript("oracle/oracle-hold.mjs", all, { input }));
	}
	const mark = () => join(folder, "marks/oracle-SHOP.json");
	const active = () => read().modes.filter((one: { status: string }) => one.status === "ACTIVE").length;
	const calls = () => readFileSync(`${stateFile}.calls`, "utf8");

	test("an open database is in backup mode until it is released, and nothing is left", async () => {
		const held = hold();
		expect(await held.line()).toBe("ready");
		expect(active()).toBe(2);
		expect(existsSync(mark())).toBe(true);
		expect(await held.release()).toBe("held");
		expect(await held.ended).toBe(0);
		expect(active()).toBe(0);
		expect(existsSync(mark())).toBe(false);
		expect(calls()).toMatch(
			/CONNECT \/ AS SYSBACKUP.*ARCHIVE LOG CURRENT.*BEGIN BACKUP.*END BACKUP.*ARCHIVE LOG CURRENT/s,
		);
	});

	test("the end of stdin ends backup mode; so does --end what a killed session left, and it can run twice", async () => {
		const one = hold();
		expect(await one.line()).toBe("ready");
		one.closeInput();
		expect(await one.ended).toBe(0);
		expect(active()).toBe(0);
		const killed = hold();
		expect(await killed.line()).toBe("ready");
		for (const pid of processTree(killed.process.pid ?? 0)) process.kill(pid, "SIGKILL");
		await killed.ended;
		expect(active()).toBe(2);
		const again = hold();
		expect(await again.ended).toBe(75);
		expect(again.output()).toContain("an earlier job left it in backup mode");
		for (const turn of [1, 2]) expect(await hold("--end").ended, `turn ${turn}`).toBe(0);
		expect(active()).toBe(0);
		expect(existsSync(mark())).toBe(false);
	});

	test("--end waits for the statement of a session that was killed, and ends no backup mode that is older", async () => {
		const one = hold();
		expect(await one.line()).toBe("ready");
		one.process.kill("SIGKILL");
		await one.ended;
		change({ session: "77" });
		const early = hold("--end", "--checkpoint-limit-ms", "300");
		expect(await early.ended).toBe(75);
		expect(early.output()).toContain("its session does not end");
		expect(active()).toBe(2);
		// Begun before our mark was written.
		change({ session: undefined, modes: read().modes.map((mode: object) => ({ ...mode, change: "4999" })) });
		expect(await hold("--end").ended).toBe(0);
		expect(active()).toBe(2);
		expect(existsSync(mark())).toBe(false);
	});

	test("backup mode of somebody else is refused, and left alone, also by --end", async () => {
		change({ modes: read().modes.map((one: object) => ({ ...one, status: "ACTIVE" })) });
		const held = hold();
		expect(await held.ended).toBe(75);
		expect(held.output()).toContain("somebody else has files in backup mode: 1, 2");
		expect(await hold("--end").ended).toBe(0);
		expect(active()).toBe(2);
		expect(calls()).not.toMatch(/(BEGIN|END) BACKUP/);
	});

	test.each([
		[
			"leaves backup mode",
			() => change({ modes: [{ ...read().modes[0], status: "NOT ACTIVE" }, read().modes[1]] }),
			"left backup mode",
		],
		[
			"enters it anew",
			() => change({ modes: [{ ...read().modes[0], change: "6001" }, read().modes[1]] }),
			"entered it anew",
		],
		["is opened another way", () => change({ openMode: "READ ONLY" }), "openMode was READ WRITE"],
	])("a database of which a file %s is a hold that was lost, and is let go", async (_what, happen, says) => {
		const held = hold();
		expect(await held.line()).toBe("ready");
		happen();
		expect(await held.release()).toMatch(new RegExp(`^lost .*${says}`));
		expect(await held.ended).toBe(1);
		expect(active()).toBe(0);
	});

	test("a client that dies is a hold that was lost, and another ends backup mode", async () => {
		const held = hold();
		expect(await held.line()).toBe("ready");
		process.kill(processTree(held.process.pid ?? 0)[1] ?? 0, "SIGKILL");
		expect(await held.line()).toMatch(/^lost its client died/);
		expect(await held.ended).toBe(1);
		await poll(active).toBe(0);
	});

	test("a closed database stays as it is, and must have stayed closed", async () => {
		change({ openMode: "MOUNTED", logMode: "NOARCHIVELOG", status: "MOUNTED" });
		const held = hold();
		expect(await held.line()).toBe("ready");
		expect(await held.release()).toBe("held");
		const opened = hold();
		expect(await opened.line()).toBe("ready");
		change({ controlFile: 12 });
		expect(await opened.release()).toMatch(/^lost controlFile/);
		expect(calls()).not.toContain("BEGIN BACKUP");
	});

	test("what can't be held is refused by name, and nothing is begun", async () => {
		const good = read();
		const cases: [object, number, string][] = [
			[{ logMode: "NOARCHIVELOG" }, 78, "needs ARCHIVELOG"],
			[{ role: "PHYSICAL STANDBY" }, 78, "hold its primary"],
			[{ parallel: "YES" }, 78, "RAC"],
			[{ files: ["+DATA/SHOP/system.dbf"] }, 78, "ASM"],
			[{ connect: "Connected to an idle instance." }, 69, "not running"],
			[{ connect: "ORA-01031: insufficient privileges" }, 77, "ORA-01031"],
			[{ beginError: "ORA-01123: cannot start online backup; media recovery not enabled" }, 69, "ORA-01123"],
		];
		for (const [fields, status, says] of cases) {
			write({ ...good, ...fields });
			const held = hold();
			expect(await held.ended, says).toBe(status);
			expect(held.output()).toContain(says);
			expect(active()).toBe(0);
			expect(existsSync(mark())).toBe(false);
		}
		write(good);
		const elsewhere = hold({ fileSystems: [{ mountPoint: "/elsewhere", superblock: "0:0" }] });
		expect(await elsewhere.ended).toBe(78);
		expect(elsewhere.output()).toContain("is not in the snapshot");
	});

	test("a dry run begins nothing", async () => {
		const tried = hold("--dry-run");
		tried.closeInput();
		expect(await tried.ended).toBe(0);
		expect(calls()).not.toContain("ALTER");
	});
});

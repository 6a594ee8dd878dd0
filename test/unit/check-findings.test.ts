import { describe, expect, test } from "vitest";
import { clusterFindings, etcdElectionMs, parseCorosyncTokenMs } from "../../command-line/check/cluster-timeouts.ts";
import { foreseeDisks } from "../../command-line/check/foresee-disks.ts";
import { tellFrozen } from "../../command-line/check/frozen-now.ts";
import { diskFinding, judgeCheck } from "../../command-line/check/judge-check.ts";
import { otherFreezerFindings } from "../../command-line/check/other-freezers.ts";
import { stallFinding } from "../../command-line/check/predicted-stall.ts";
import type { Process } from "../../command-line/check/processes.ts";
import { databaseFindings, mayBeDatabase } from "../../command-line/check/running-databases.ts";
import { layerKind } from "../../command-line/check/storage-findings.ts";
import { widthOf } from "../../command-line/layout.ts";
import { renderCheck } from "../../command-line/render-check.ts";
import type { Check, CheckedDisk, Finding } from "../../contracts/check.ts";

const process = (name: string, more: Partial<Process> = {}): Process => ({
	pid: 7,
	parent: 1,
	name,
	args: [],
	...more,
});
const disk = (changes: Partial<CheckedDisk> = {}): CheckedDisk => ({
	name: "vda",
	sizeBytes: 1,
	included: true,
	level: "file-system",
	because: [],
	...changes,
});
const fine: Finding = { check: "x", status: "ok", what: "well" };

describe("what the findings come to", () => {
	const judge = (changes: Partial<Parameters<typeof judgeCheck>[0]>) =>
		judgeCheck({ disks: [disk()], findings: [fine], frozen: [], wanted: "file-system", ...changes });

	test("protected only when every included disk reaches what is wanted and nothing is in the way", () => {
		expect(judge({})).toBe("protected");
		expect(judge({ disks: [disk(), disk({ included: false, level: "none" })] })).toBe("protected");
	});

	test.each([
		["no disk at all", { disks: [] }],
		["only disks that are left out", { disks: [disk({ included: false })] }],
		["a disk below what is wanted", { disks: [disk(), disk({ level: "crash" })] }],
		["file-system where application is wanted", { wanted: "application" as const }],
		["something frozen now", { frozen: [{ mountPoint: "/srv", by: "other" as const }] }],
		["a finding that fails jobs", { findings: [fine, { ...fine, status: "fail" as const }] }],
	])("unprotected by %s", (_what, changes) => {
		expect(judge(changes)).toBe("unprotected");
	});

	test.each(["warn", "unknown"] as const)("degraded by a finding that is %s", (status) => {
		expect(judge({ findings: [fine, { ...fine, status }] })).toBe("degraded");
	});

	test("a disk's finding fails below what is wanted, and only there", () => {
		expect(diskFinding(disk(), "file-system").status).toBe("ok");
		expect(diskFinding(disk(), "application").status).toBe("fail");
	});
});

describe("the level of each disk is the verdict's", () => {
	const plan = {
		disks: ["a", "b", "c"].map((name) => ({
			name,
			number: "1:1",
			sizeBytes: 1,
			included: name !== "c",
			fileSystemUuids: [],
			superblocks: [`fs-${name}`],
		})),
		uncovered: [{ why: "excluded-by-config" as const, disks: ["b"] }],
	};
	const none = { plan, failed: new Map(), applications: [], wereTried: true, freezeDisabled: false };
	const levels = (changes: Partial<Parameters<typeof foreseeDisks>[0]>) =>
		foreseeDisks({ ...none, ...changes }).map(({ name, level, because }) => [
			name,
			level,
			because.map(({ code }) => code),
		]);
	const application = { name: "db", proved: true, holdLost: false };

	test("without applications file-system at best, and what lies uncovered lowers its own disk", () => {
		expect(levels({})).toEqual([
			["a", "file-system", ["no-applications"]],
			["b", "crash", ["excluded-by-config"]],
			["c", "none", []],
		]);
	});

	test("application when each is proved", () => {
		expect(levels({ applications: [application] })[0]).toEqual(["a", "application", []]);
		expect(levels({ applications: [application, { ...application, proved: false }] })[0]).toEqual([
			"a",
			"file-system",
			["script-failed"],
		]);
	});

	test("scripts that nobody tried are no failure of a script, and prove nothing", () => {
		const untried = { applications: [{ ...application, proved: false }], wereTried: false };
		expect(levels(untried)[0]).toEqual(["a", "file-system", []]);
	});

	test("what is frozen by another, or does not freeze, is worth crash", () => {
		expect(levels({ failed: new Map([["fs-a", "foreign"]]) })[0]).toEqual(["a", "crash", ["foreign-freeze"]]);
		expect(levels({ failed: new Map([["fs-a", "failed"]]) })[0]).toEqual(["a", "crash", ["freeze-failed"]]);
		expect(levels({ freezeDisabled: true })[0]).toEqual(["a", "crash", ["freeze-disabled"]]);
	});
});

describe("frozen now", () => {
	const target = (superblock: string) => ({ superblock, mountPoint: `/m/${superblock}`, openPath: "/" });
	const ours = { superblock: "1", mountPoint: "/m/1", jobId: "j", since: "2026-01-01T00:00:00.000Z" };

	test("is ours by the ledger, and somebody else's without", () => {
		const states = new Map([
			["1", "frozen"],
			["2", "frozen"],
			["3", "not-frozen"],
		] as const);
		expect(tellFrozen(["1", "2", "3"].map(target), states, [ours])).toEqual([
			{ mountPoint: "/m/1", by: "stillpoint", jobId: "j", since: ours.since },
			{ mountPoint: "/m/2", by: "other" },
		]);
	});

	test("a ledger that the probe contradicts is not believed, one that it could not answer is", () => {
		expect(tellFrozen([target("1")], new Map([["1", "not-frozen"]]), [ours])).toEqual([]);
		expect(tellFrozen([target("1")], new Map([["1", "unknown"]]), [ours])).toMatchObject([{ jobId: "j" }]);
		expect(tellFrozen([], new Map(), [ours])).toMatchObject([{ jobId: "j" }]);
	});
});

describe("databases that run", () => {
	const everywhere = () => true;
	const find = (processes: Process[], names: string[] = []) =>
		databaseFindings(
			processes,
			names.map((name) => ({ name, application: name })),
			everywhere,
		).map(({ status, what }) => `${status} ${what}`);

	test("without an application are a warning, once for all servers of a kind", () => {
		const postmaster = process("postgres", { pid: 5, folder: "/data/b" });
		const writer = process("postgres", { pid: 6, parent: 5, folder: "/data/b" });
		const another = process("postmaster", { pid: 9, folder: "/data/a" });
		expect(find([postmaster, writer, another])).toEqual([
			"warn PostgreSQL runs (/data/a, /data/b), and no application covers it",
		]);
		expect(find([postmaster, writer, another], ["postgresql"])).toEqual([
			"warn PostgreSQL runs (/data/a, /data/b), and only 1 of 2 are covered",
		]);
		expect(find([postmaster, writer], ["postgresql"])).toEqual(["ok PostgreSQL runs (/data/b): postgresql"]);
	});

	test("are told by name, and other programs are not", () => {
		const names = ["mariadbd", "mysqld", "redis-server", "mongod", "ora_pmon_ORCL", "postgres"];
		expect(names.filter(mayBeDatabase)).toEqual(names);
		expect(["psql", "bash", "redis-cli", "pmon"].filter(mayBeDatabase)).toEqual([]);
		expect(find(["mariadbd", "redis-server", "mongod", "ora_pmon_ORCL"].map((name) => process(name)))).toHaveLength(4);
	});

	test("whose data no job covers are left alone; those of a container are told as such", () => {
		const one = process("mariadbd", { folder: "/data", isElsewhere: true });
		expect(databaseFindings([one], [], () => false)).toEqual([]);
		const [found] = databaseFindings([one], [], (folder, { pid }) => folder === "/data" && pid === 7);
		expect(found?.what).toContain("MariaDB or MySQL runs (/data of another mount namespace)");
	});
});

describe("cluster software", () => {
	const find = (changes: Partial<Parameters<typeof clusterFindings>[0]>) =>
		clusterFindings({
			processes: [],
			corosyncFiles: new Map(),
			etcdFiles: new Map(),
			holdLimitMs: 10_000,
			...changes,
		}).map(({ status }) => status);

	test("a corosync whose file could not be read is judged by the default, and the file is named", () => {
		const processes = [process("corosync", { args: ["corosync", "-f", "-c", "/srv/own.conf"] })];
		const [one] = clusterFindings({ processes, corosyncFiles: new Map(), etcdFiles: new Map(), holdLimitMs: 60_000 });
		expect([one?.status, one?.what]).toEqual(["warn", expect.stringContaining("(/srv/own.conf could not be read")]);
	});

	test("corosync's token grows with the nodes", () => {
		expect(parseCorosyncTokenMs("totem {\n}\n")).toBe(3_000);
		expect(
			parseCorosyncTokenMs("totem {\n\ttoken: 12000\n}\nnodelist {\n node {\n}\n node {\n}\n node {\n}\n}\n"),
		).toBe(12_650);
		expect(parseCorosyncTokenMs(`token_coefficient: ${"9".repeat(400)}\n`)).toBe(3_000);
		expect(parseCorosyncTokenMs("# token: 99\n\ttoken_coefficient: 0\n")).toBe(3_000);
		expect(parseCorosyncTokenMs("token: soon\n")).toBe(3_000);
	});

	test("etcd's election timeout comes from file, flag, variable, default", () => {
		const etcd = process("etcd", {
			args: ["etcd", "--election-timeout=5000"],
			environment: { ETCD_ELECTION_TIMEOUT: "7" },
		});
		expect(etcdElectionMs(etcd, undefined)).toBe(5_000);
		expect(etcdElectionMs({ ...etcd, args: ["etcd"] }, undefined)).toBe(7);
		expect(etcdElectionMs(etcd, "name: a\nelection-timeout: 2500\n")).toBe(2_500);
		expect(etcdElectionMs(etcd, "")).toBe(1_000);
	});

	test("is warned of when a hold may outlast it, and only when it runs", () => {
		expect(find({ corosyncFiles: new Map([[7, "totem {}"]]) })).toEqual([]);
		expect(find({ processes: [process("corosync"), process("etcd")] })).toEqual(["warn", "warn"]);
		const corosyncFiles = new Map([[7, "totem {\n token: 20000\n}"]]);
		expect(find({ corosyncFiles, processes: [process("corosync")] })).toEqual(["ok"]);
	});
});

describe("small facts", () => {
	test("other programs that freeze are named", () => {
		expect(otherFreezerFindings([process("sshd")], ["Microsoft.Other-1"])).toMatchObject([{ status: "ok" }]);
		const azure = ["Microsoft.Azure.RecoveryServices.VMSnapshotLinux-1.0.9188.0"];
		expect(otherFreezerFindings([process("qemu-ga"), process("vmtoolsd")], azure).map(({ status }) => status)).toEqual([
			"warn",
			"warn",
			"warn",
		]);
	});

	test("a stall longer than a usual hold is warned of, and is always said to be an estimate", () => {
		const stall = { dirtyBytes: 1e9, disk: "vda", bytesPerSecond: 1e7 };
		expect(stallFinding({ ...stall, predictedMs: 100_000 })).toMatchObject({
			status: "warn",
			what: expect.stringContaining("estimate"),
		});
		expect(stallFinding({ ...stall, predictedMs: 100 }).status).toBe("ok");
		expect(stallFinding({ ...stall, freezeMs: 20, predictedMs: 100 }, 20).status).toBe("ok");
		expect(stallFinding({ ...stall, freezeMs: 21, predictedMs: 100 }, 20).status).toBe("fail");
	});

	test("the maker of a mapped device stands in its UUID", () => {
		expect(["CRYPT-LUKS2-00ff-luks", "LVM-abc", "mpath-36", ""].map(layerKind)).toEqual([
			"encrypted: LUKS2",
			"LVM",
			"multipath",
			"device mapper",
		]);
	});
});

describe("the page", () => {
	const many = Array.from(
		{ length: 30 },
		(_, at): Finding => ({
			check: `check-${at}`,
			status: at % 2 ? "warn" : "fail",
			what: "something long that stands in the way of a better snapshot on this machine ".repeat(4),
			why: "because",
			remedy: "do something about it that takes a whole line and more to tell ".repeat(3),
		}),
	);
	const check = (changes: Partial<Check> = {}): Check => ({
		schemaVersion: 1,
		state: "unprotected",
		wanted: "file-system",
		version: "0",
		hostname: "h",
		checkedAt: "2026-01-01T00:00:00.000Z",
		disks: [disk(), disk({ name: "vdb" })],
		fileSystems: [],
		notCovered: [],
		frozen: [],
		findings: many,
		...changes,
	});
	const terminal = { columns: 80, hasColor: false };

	test.each([
		[4, []],
		[5, []],
		[6, ["  and 2 more"]],
	])("of %s disks none is left out for a line that tells of one", (length, more) => {
		const disks = Array.from({ length }, (_, at) => disk({ name: `disk-${at}` }));
		const lines = renderCheck(check({ disks, findings: [fine] }), false, terminal).split("\n");
		expect(lines.filter((one) => /^ {2}and \d+ more$/.test(one))).toEqual(more);
		expect(lines.filter((one) => one.startsWith("  disk-"))).toHaveLength(length - (more.length > 0 ? 2 : 0));
	});

	test("is one screen of 80 by 24, however much is wrong", () => {
		const disks = Array.from({ length: 9 }, (_, at) =>
			disk({
				name: `disk-${at}`,
				because: [
					{ code: "excluded-by-config", what: "x", remedy: "y" },
					{ code: "not-reached", what: "x", remedy: "y" },
				],
			}),
		);
		for (const one of [check(), check({ disks }), check({ findings: [] })]) {
			const lines = renderCheck(one, false, terminal).split("\n");
			expect(lines.length).toBeLessThan(24);
			expect(lines.filter((line) => widthOf(line) > 80)).toEqual([]);
		}
		expect(renderCheck(check(), true, terminal).split("\n").length).toBeGreaterThan(24);
	});

	test("what a hostile mount point holds is shown, not obeyed", () => {
		const mountPoint = "/srv/a\nPROTECTED\u001b[2J\u202e";
		const fileSystem = {
			mountPoint,
			device: "/dev/x",
			fsType: "ext4",
			superblock: "1:1",
			disks: ["vda"],
			order: 0,
			state: "frozen" as const,
		};
		const one = check({
			fileSystems: Array.from({ length: 300 }, () => fileSystem),
			frozen: [{ mountPoint, by: "other" }],
			notCovered: [{ what: mountPoint, why: "network" }],
			findings: [{ check: "frozen", status: "fail", what: mountPoint }],
		});
		for (const details of [false, true]) {
			const text = renderCheck(one, details, terminal);
			for (const control of ["\u001b", "\u202e"]) expect(text.includes(control)).toBe(false);
			expect(text.split("\n").filter((line) => line.trim() === "PROTECTED")).toEqual([]);
		}
	});
});

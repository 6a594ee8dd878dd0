import { describe, expect, test } from "vitest";
import type { SnapshotOutcome } from "../../contracts/hold-protocol.ts";
import { atLeast, type Level } from "../../contracts/level.ts";
import type { Because } from "../../contracts/report.ts";
import {
	type CallEvidence,
	foreseeLevel,
	type JobEvidence,
	judge,
	type TakenEvidence,
	wasFrozenAllAlong,
} from "../../extensions/vm-snapshot-linux/consistency-verdict.ts";

const frozen: CallEvidence = { result: "frozen", startedAtMs: 90, endedAtMs: 95 };
const thawed: CallEvidence = { result: "thawed", startedAtMs: 205, endedAtMs: 206 };

/** Everything is proved: two disks, three file systems, one of them on both disks. */
const proved: JobEvidence = {
	requested: "application",
	snapshot: "reported",
	disks: [
		{ name: "vda", included: true, superblocks: ["8:1", "0:40"], fileSystemUuids: ["aaaa"] },
		{ name: "vdb", included: true, superblocks: ["8:17", "0:40"], fileSystemUuids: ["BBBB"] },
		{ name: "vdz", included: false, superblocks: [], fileSystemUuids: [] },
	],
	fileSystems: ["8:1", "8:17", "0:40"].map((superblock) => ({ superblock, freeze: frozen, thaw: thawed })),
	uncovered: [],
	window: { fromMs: 100, untilMs: 200 },
	lookedAgain: true,
	applications: [{ name: "shop", proved: true, holdLost: false }],
	outcomes: [
		{ name: "vda", ok: true, snapshotId: "1" },
		{ name: "vdb", ok: true, snapshotId: "2" },
	],
	described: [
		{ name: "vda", fileSystemUuids: ["aaaa", "cccc"] },
		{ name: "vdb", fileSystemUuids: ["bbbb"] },
	],
};

type Row = [
	claim: string,
	change: Partial<JobEvidence>,
	vda: [held: Level, achieved: Level | null],
	vdb: [held: Level, achieved: Level | null],
	because: Because[],
];

const application: [Level, Level] = ["application", "application"];
const fileSystem: [Level, Level] = ["file-system", "file-system"];
const crash: [Level, Level] = ["crash", "crash"];

const rows: Row[] = [
	["everything proved is application", {}, application, application, []],
	["asked for file-system, scripts prove no more", { requested: "file-system" }, fileSystem, fileSystem, []],
	["asked for crash nothing more is claimed", { requested: "crash" }, crash, crash, ["ordered-crash"]],
	["nothing may be frozen", { freezeDisabled: true }, crash, crash, ["freeze-disabled"]],
	["no application configured", { applications: [] }, fileSystem, fileSystem, ["no-applications"]],
	["a script failed", { applications: app({ proved: false }) }, fileSystem, fileSystem, ["script-failed"]],
	[
		"a session lost its hold",
		{ applications: app({ proved: false, holdLost: true }) },
		fileSystem,
		fileSystem,
		["script-hold-lost"],
	],
	[
		"one of two applications unproved",
		{ applications: [...app({}), ...app({ proved: false })] },
		fileSystem,
		fileSystem,
		["script-failed"],
	],
	["freeze failed on one disk", { fileSystems: freeze("8:1", "failed") }, crash, application, ["freeze-failed"]],
	["freeze unsupported", { fileSystems: freeze("8:1", "unsupported") }, crash, application, ["freeze-failed"]],
	["freeze never tried", { fileSystems: freeze("8:1", "pending") }, crash, application, ["freeze-failed"]],
	["freeze still in flight", { fileSystems: freeze("8:1", "freezing") }, crash, application, ["freeze-failed"]],
	["freeze held by another", { fileSystems: freeze("8:17", "foreign") }, application, crash, ["foreign-freeze"]],
	["a file system on both disks failed", { fileSystems: freeze("0:40", "failed") }, crash, crash, ["freeze-failed"]],
	["somebody else thawed", { fileSystems: thaw("8:1", "not-frozen") }, crash, application, ["thawed-by-other"]],
	["FITHAW failed", { fileSystems: thaw("8:1", "thaw-failed") }, crash, application, ["evidence-lost"]],
	["no thaw answer", { fileSystems: without("8:1", "thaw") }, crash, application, ["evidence-lost"]],
	["no freeze answer", { fileSystems: without("8:1", "freeze") }, crash, application, ["evidence-lost"]],
	["no answers of any", { fileSystems: [] }, crash, crash, ["evidence-lost"]],
	[
		"thawed before the snapshot ended",
		{ fileSystems: change("8:1", { thaw: { ...thawed, startedAtMs: 199.9 } }) },
		crash,
		application,
		["thawed-early"],
	],
	[
		"frozen after the snapshot began",
		{ fileSystems: change("8:1", { freeze: { ...frozen, endedAtMs: 100.1 } }) },
		crash,
		application,
		["snapshot-outside-window"],
	],
	["excluded by config", uncovered("excluded-by-config"), crash, application, ["excluded-by-config"]],
	["unfreezable", uncovered("unsupported-file-system"), crash, application, ["unsupported-file-system"]],
	["in another namespace", uncovered("not-reached"), crash, application, ["not-reached"]],
	["appeared later", uncovered("appeared-after-plan"), crash, application, ["appeared-after-plan"]],
	["spans a disk left out", uncovered("spans-left-out-disk"), crash, application, ["spans-left-out-disk"]],
	["foreign freeze in the plan", uncovered("foreign-freeze"), crash, application, ["foreign-freeze"]],
	["read-only lowers nothing", uncovered("read-only"), application, application, []],
	["swap lowers nothing", uncovered("swap"), application, application, []],
	["tmpfs and overlay lower nothing", uncovered("no-storage"), application, application, []],
	["network lowers nothing", uncovered("network"), application, application, []],
	["a temp disk lowers nothing", uncovered("temp-disk"), application, application, []],
	["the mount table was not read again", { lookedAgain: false }, crash, crash, ["evidence-lost"]],
	["not described", withoutAny("described"), ["application", "crash"], ["application", "crash"], ["mapping-unproved"]],
	[
		"one image not described",
		{ described: [{ name: "vda", fileSystemUuids: ["aaaa"] }] },
		application,
		["application", "crash"],
		["mapping-unproved"],
	],
	[
		"images swapped",
		{
			described: [
				{ name: "vda", fileSystemUuids: ["bbbb"] },
				{ name: "vdb", fileSystemUuids: ["aaaa"] },
			],
		},
		["application", "crash"],
		["application", "crash"],
		["mapping-wrong"],
	],
	[
		"an image without file systems",
		{
			described: [
				{ name: "vda", fileSystemUuids: [] },
				{ name: "vdb", fileSystemUuids: ["bbbb"] },
			],
		},
		["application", "crash"],
		application,
		["mapping-wrong"],
	],
	[
		"a disk that nothing can be matched with",
		{ disks: proved.disks.map((disk) => ({ ...disk, fileSystemUuids: [] })) },
		["application", "crash"],
		["application", "crash"],
		["mapping-unproved"],
	],
	[
		"a snapshot of one disk failed",
		{
			outcomes: [
				{ name: "vda", ok: false },
				{ name: "vdb", ok: true },
			],
		},
		["application", "none"],
		application,
		["snapshot-failed"],
	],
	[
		"no word about one disk",
		{ outcomes: [{ name: "vdb", ok: true }] },
		["application", "none"],
		application,
		["snapshot-not-taken"],
	],
	[
		"released without a snapshot",
		withoutAny("outcomes"),
		["application", "none"],
		["application", "none"],
		["snapshot-not-taken"],
	],
	["never frozen", withoutAny("window"), ["none", "crash"], ["none", "crash"], ["snapshot-outside-window"]],
	["nobody tells of a snapshot", { snapshot: "unknown" }, ["application", null], ["application", null], []],
	[
		"nobody tells, and somebody else thawed",
		{ snapshot: "unknown", fileSystems: thaw("8:17", "not-frozen") },
		["application", null],
		["crash", null],
		["thawed-by-other"],
	],
	[
		"one disk let go before the other",
		{ ...letGo("8:1", 151), taken: [taken("vda", 150)] },
		application,
		application,
		[],
	],
	[
		"let go before it was taken",
		{ ...letGo("8:1", 149), taken: [taken("vda", 150)] },
		crash,
		application,
		["thawed-early"],
	],
	[
		"let go though another disk was taken",
		{ ...letGo("8:1", 151), taken: [taken("vdb", 150)] },
		crash,
		application,
		["thawed-early"],
	],
	[
		"a file system on both disks let go after the first of them",
		{ ...letGo("0:40", 151), taken: [taken("vda", 150)] },
		crash,
		crash,
		["thawed-early"],
	],
	[
		"a file system on both disks let go after the second of them",
		{ ...letGo("0:40", 161), taken: [taken("vda", 150), taken("vdb", 160)] },
		application,
		application,
		[],
	],
	[
		"somebody else thawed before it was let go",
		{ fileSystems: thaw("8:1", "not-frozen"), taken: [taken("vda", 150)] },
		crash,
		application,
		["thawed-by-other"],
	],
	[
		"one disk let go, then the hold is lost",
		{ ...letGo("8:1", 151), taken: [taken("vda", 150)], window: { fromMs: 100, untilMs: Number.POSITIVE_INFINITY } },
		// One of its file systems lies on the other disk, too.
		crash,
		crash,
		["thawed-early"],
	],
	[
		"taken before all was frozen",
		{ taken: [taken("vda", 100)] },
		["application", "crash"],
		application,
		["snapshot-outside-window"],
	],
	[
		"a disk let go for a word from before all was frozen",
		{ ...letGo("8:1", 151), taken: [taken("vda", 99)] },
		crash,
		application,
		["thawed-early", "snapshot-outside-window"],
	],
	[
		"done names another snapshot than taken did",
		{ taken: [taken("vda", 150, { snapshotId: "other" })] },
		["application", "crash"],
		application,
		["snapshot-outside-window"],
	],
	[
		"taken names two snapshots of a disk",
		{ taken: [taken("vda", 150), taken("vda", 151, { snapshotId: "other" })] },
		["application", "crash"],
		application,
		["snapshot-outside-window"],
	],
	[
		"done says that what was taken failed",
		{ ...letGo("8:1", 151), taken: [taken("vda", 150)], outcomes: told({ ok: false }) },
		["application", "none"],
		application,
		["snapshot-failed"],
	],
	[
		"taken says that what is done failed",
		{ taken: [taken("vda", 150, { ok: false })] },
		["application", "none"],
		application,
		["snapshot-failed"],
	],
	[
		"done forgets what was taken",
		{ ...letGo("8:1", 151), taken: [taken("vda", 150)], outcomes: told({}).slice(1) },
		["application", "none"],
		application,
		["snapshot-not-taken"],
	],
	["taken of an unknown disk", { taken: [taken("vdq", 150)] }, application, application, []],
	[
		"taken twice",
		{ ...letGo("8:1", 151), taken: [taken("vda", 150), taken("vda", 170)] },
		application,
		application,
		[],
	],
	[
		"several reasons stand together, in the catalogue's order",
		{ fileSystems: freeze("8:1", "failed"), ...uncovered("excluded-by-config"), lookedAgain: false },
		crash,
		crash,
		["freeze-failed", "excluded-by-config", "evidence-lost"],
	],
];

describe("the verdict", () => {
	test.each(rows)("%s", (_claim, changed, vda, vdb, because) => {
		const verdict = judge(merge(changed));
		const [first, second, third] = verdict.disks;
		expect([first?.held, first?.achieved]).toEqual(vda);
		expect([second?.held, second?.achieved]).toEqual(vdb);
		expect(verdict.because).toEqual(because);
		expect(verdict.held).toBe(lower(vda[0], vdb[0]));
		expect(verdict.achieved).toBe(vda[1] === null || vdb[1] === null ? null : lower(vda[1], vdb[1]));
		expect(third).toMatchObject({ held: "none", because: [] });
	});

	test("a job without an included disk is worth nothing", () => {
		const verdict = judge({ ...proved, disks: proved.disks.map((disk) => ({ ...disk, included: false })) });
		expect(verdict).toMatchObject({ held: "none", achieved: "none" });
	});

	test("of two words about one disk the weaker counts, in either order", () => {
		const failed = { name: "vda", ok: false };
		const other = { name: "vda", fileSystemUuids: ["bbbb"] };
		const { outcomes = [], described = [] } = proved;
		for (const twice of [
			[...outcomes, failed],
			[failed, ...outcomes],
		]) {
			expect(judge({ ...proved, outcomes: twice }).disks[0]?.achieved).toBe("none");
		}
		for (const twice of [
			[...described, other],
			[other, ...described],
		]) {
			expect(judge({ ...proved, described: twice }).disks[0]?.achieved).toBe("crash");
		}
	});

	test("removing any piece of evidence never raises a level", () => {
		for (const [, changed] of rows) {
			const before = merge(changed);
			const full = judge(before);
			for (const [what, less] of lessEvidence(before)) {
				const verdict = judge(less);
				for (const [index, disk] of verdict.disks.entries()) {
					const was = full.disks[index];
					expect(atLeast(was?.held ?? "none", disk.held), `${what}: held of ${disk.name}`).toBe(true);
					if (disk.achieved === null || was?.achieved === null) continue;
					// A window that nobody was told of holds nothing, but what was reported as taken stays a snapshot.
					expect(atLeast(was?.achieved ?? "none", disk.achieved), `${what}: ${disk.name}`).toBe(true);
				}
			}
		}
	});

	test("negative control: removing what speaks against a level does raise it", () => {
		expect(judge(merge(uncovered("not-reached"))).achieved).toBe("crash");
		expect(judge(merge({})).achieved).toBe("application");
	});

	test("no level above what was asked is given", () => {
		for (const requested of ["crash", "file-system", "application"] as const) {
			for (const [, changed] of rows) {
				const verdict = judge(merge({ ...changed, requested }));
				expect(atLeast(requested, verdict.held)).toBe(true);
			}
		}
	});
});

describe("the level that is foreseen", () => {
	test("is never below the verdict of the same job", () => {
		for (const [, changed] of rows) {
			const evidence = merge(changed);
			expect(atLeast(foreseeLevel(evidence), judge(evidence).held)).toBe(true);
		}
	});

	test("counts what is not covered", () => {
		expect(foreseeLevel(merge({}))).toBe("application");
		expect(foreseeLevel(merge({ applications: [] }))).toBe("file-system");
		expect(foreseeLevel(merge(uncovered("excluded-by-config")))).toBe("crash");
		expect(foreseeLevel(merge({ freezeDisabled: true }))).toBe("crash");
	});

	test("is no more than is still possible when a script has failed, or can't be run", () => {
		const applications = [...proved.applications, { name: "other", proved: false, holdLost: false }];
		expect(foreseeLevel(merge({ applications }))).toBe("application");
		const failed = applications.map((one) => (one.proved ? one : { ...one, bad: true }));
		expect(foreseeLevel(merge({ applications: failed }))).toBe("file-system");
	});
});

test("a file system was frozen all along only when both answers enclose the window", () => {
	const never = { disks: proved.disks };
	expect(wasFrozenAllAlong({ superblock: "8:1", freeze: frozen, thaw: thawed }, proved)).toBe(true);
	expect(wasFrozenAllAlong({ superblock: "8:1", freeze: frozen, thaw: thawed }, never)).toBe(false);
	expect(wasFrozenAllAlong({ superblock: "8:1", freeze: frozen }, proved)).toBe(false);
	const early = { superblock: "8:1", freeze: frozen, thaw: { ...thawed, startedAtMs: 151 } };
	expect(wasFrozenAllAlong(early, proved)).toBe(false);
	expect(wasFrozenAllAlong(early, { ...proved, taken: [taken("vda", 150)] })).toBe(true);
});

function merge(changed: Partial<JobEvidence>): JobEvidence {
	const merged: Record<string, unknown> = { ...proved, ...changed };
	for (const key of Object.keys(merged)) if (merged[key] === undefined) delete merged[key];
	return merged as JobEvidence;
}

function taken(disk: string, atMs: number, more: Partial<SnapshotOutcome> = {}): TakenEvidence {
	return { disk: { name: disk, ok: true, snapshotId: disk === "vda" ? "1" : "2", ...more }, atMs };
}

function letGo(superblock: string, startedAtMs: number): Partial<JobEvidence> {
	return { fileSystems: change(superblock, { thaw: { result: "thawed", startedAtMs, endedAtMs: startedAtMs + 0.1 } }) };
}

function told(vda: Partial<SnapshotOutcome>): SnapshotOutcome[] {
	return (proved.outcomes ?? []).map((one) => (one.name === "vda" ? { ...one, ...vda } : one));
}

function* lessEvidence(evidence: JobEvidence): Generator<[string, JobEvidence]> {
	const { window: _w, ...noWindow } = evidence;
	yield ["window", noWindow];
	const { outcomes, ...noOutcomes } = evidence;
	yield ["outcomes", noOutcomes];
	const { described, ...noDescribed } = evidence;
	yield ["described", noDescribed];
	yield ["second look", { ...evidence, lookedAgain: false }];
	for (const one of outcomes ?? [])
		yield [`outcome of ${one.name}`, { ...evidence, outcomes: (outcomes ?? []).filter((other) => other !== one) }];
	for (const one of described ?? [])
		yield [`image of ${one.name}`, { ...evidence, described: (described ?? []).filter((other) => other !== one) }];
	for (const one of evidence.fileSystems) {
		const others = evidence.fileSystems.filter((other) => other !== one);
		const { freeze: _f, ...noFreeze } = one;
		const { thaw: _t, ...noThaw } = one;
		yield [`file system ${one.superblock}`, { ...evidence, fileSystems: others }];
		yield [`freeze of ${one.superblock}`, { ...evidence, fileSystems: [...others, noFreeze] }];
		yield [`thaw of ${one.superblock}`, { ...evidence, fileSystems: [...others, noThaw] }];
	}
	// That a snapshot was taken too early, or failed, speaks against a level.
	for (const one of (evidence.taken ?? []).filter(
		({ disk, atMs }) => disk.ok && atMs > 100 && disk.snapshotId !== "other",
	))
		yield [`taken of ${one.disk.name}`, { ...evidence, taken: evidence.taken?.filter((other) => other !== one) ?? [] }];
	for (const one of evidence.applications) {
		const others = evidence.applications.filter((other) => other !== one);
		yield [`proof of ${one.name}`, { ...evidence, applications: [...others, { ...one, proved: false }] }];
	}
}

function app(changed: Partial<JobEvidence["applications"][number]>): JobEvidence["applications"] {
	return [{ name: "shop", proved: true, holdLost: false, ...changed }];
}

function change(superblock: string, changed: Partial<JobEvidence["fileSystems"][number]>): JobEvidence["fileSystems"] {
	return proved.fileSystems.map((one) => (one.superblock === superblock ? { ...one, ...changed } : one));
}

function freeze(superblock: string, result: CallEvidence["result"]): JobEvidence["fileSystems"] {
	return change(superblock, { freeze: { ...frozen, result } });
}

function thaw(superblock: string, result: CallEvidence["result"]): JobEvidence["fileSystems"] {
	return change(superblock, { thaw: { ...thawed, result } });
}

function without(superblock: string, key: "freeze" | "thaw"): JobEvidence["fileSystems"] {
	return proved.fileSystems.map((one) => {
		if (one.superblock !== superblock) return one;
		const { [key]: _gone, ...rest } = one;
		return rest;
	});
}

function withoutAny(key: "window" | "outcomes" | "described"): Partial<JobEvidence> {
	return { [key]: undefined } as unknown as Partial<JobEvidence>;
}

function uncovered(why: JobEvidence["uncovered"][number]["why"]): Partial<JobEvidence> {
	return { uncovered: [{ why, disks: ["vda"] }] };
}

function lower(a: Level, b: Level): Level {
	return atLeast(a, b) ? b : a;
}

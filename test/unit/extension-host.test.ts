import { execFileSync } from "node:child_process";
import {
	mkdirSync,
	mkdtempSync,
	readdirSync,
	readFileSync,
	rmSync,
	statSync,
	utimesSync,
	writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { collectEvents, parseEvent } from "../../agent/extension-host/collect-events.ts";
import { appendCommandLog, openOutput, readTail } from "../../agent/extension-host/command-log.ts";
import { checkGraph } from "../../agent/extension-host/dependency-graph.ts";
import { findInstalled } from "../../agent/extension-host/find-extensions.ts";
import {
	carryOver,
	findOtherInstances,
	writeHandlerState,
	writeSettings,
} from "../../agent/extension-host/handler-files.ts";
import { placeOf } from "../../agent/extension-host/handler-place.ts";
import { parseHandlerStatus, readHandlerStatus } from "../../agent/extension-host/handler-status-file.ts";
import { parseHeartbeat } from "../../agent/extension-host/heartbeat.ts";
import { noteJobStart } from "../../agent/extension-host/job-note.ts";
import { parseGoalState } from "../../agent/extension-host/read-goal-states.ts";
import { makeRestartDelay } from "../../agent/extension-host/restart-delay.ts";
import { unitGoals } from "../../agent/extension-host/unit.ts";
import { handlerManifestSchema } from "../../contracts/extension.ts";
import { badFiles } from "../fixtures/bad-files.ts";

const command = "./x";
const manifestText = {
	name: "Acme.Test",
	version: "1.0",
	handlerManifest: {
		installCommand: command,
		uninstallCommand: command,
		updateCommand: command,
		enableCommand: command,
		disableCommand: command,
	},
};

let folder: string;
beforeEach(() => {
	folder = mkdtempSync(join(tmpdir(), "stillpoint-test-host-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

describe("a drop-in", () => {
	const parse = (content: unknown) => parseGoalState(JSON.stringify(content), "/etc/X.json", "X");
	const base = { version: 1, name: "X" };

	test.each([
		["an unknown key", { ...base, sequenceNo: 1 }, /X\.json.*sequenceNo/],
		["another name than the file's", { ...base, name: "Y" }, /name: is Y; the file must be called Y\.json/],
		["no version", { name: "X" }, /version/],
		["a negative sequence number", { ...base, sequenceNumber: -1 }, /sequenceNumber/],
		["settings that are a list", { ...base, publicSettings: [] }, /publicSettings/],
		["settings beside instances", { ...base, publicSettings: {}, instances: { a: {} } }, /instances: with instances/],
		["an instance whose name leaves the folder", { ...base, instances: { "../a": {} } }, /instances/],
		["an instance that is uninstalled", { ...base, instances: { a: { state: "uninstalled" } } }, /instances\.a\.state/],
		["a name to depend on that is a path", { ...base, dependsOn: ["../../x"] }, /dependsOn\.0/],
	])("with %s is refused, and the field is named", (_what, content, message) => {
		expect(() => parse(content)).toThrow(message);
	});

	test("that is half written is refused without a word of what it holds", () => {
		const half = '{"version":1,"name":"X","protectedSettings":{"password":"geheim';
		expect(() => parseGoalState(half, "/etc/X.json", "X")).toThrow(/^\/etc\/X\.json is no JSON$/);
	});

	test("that is not there: enabled, nothing set; a disabled handler has no enabled instance", () => {
		expect(unitGoals("X", undefined)).toMatchObject([{ handler: "X", state: "enabled", sequenceNumber: 0 }]);
		const goal = parse({
			...base,
			state: "disabled",
			dependsOn: ["Y"],
			instances: { a: {}, b: { dependsOn: ["X/a"] } },
		});
		expect(unitGoals("X", goal)).toMatchObject([
			{ instance: "a", state: "disabled", dependsOn: ["Y"] },
			{ instance: "b", state: "disabled", dependsOn: ["Y", "X/a"] },
		]);
		expect(unitGoals("X", parse({ ...base, state: "disabled" }))[0]?.state).toBe("disabled");
	});
});

describe("files that a handler put in the host's way", () => {
	const oddThings = ["mkfifo", "ln -s /proc/kmsg", "ln -s /dev/zero", "mkdir"];

	test.each(oddThings)("(%s) keep no update from being made, and are not carried over", async (make) => {
		const host = { stateDir: folder, extensionsDir: folder, logDir: join(folder, "log") };
		const places = ["1.0", "2.0"].map((version) => {
			const place = placeOf(host, handlerManifestSchema.parse({ ...manifestText, version }));
			mkdirSync(place.statusFolder, { recursive: true });
			return place;
		});
		const [from, to] = places as [(typeof places)[0] & object, (typeof places)[0] & object];
		for (const path of [join(from.folder, "mrseq"), join(from.statusFolder, "1.status")])
			execFileSync("sh", ["-c", `${make} "$0"`, path]);
		writeFileSync(join(from.folder, "web.mrseq"), "7");
		await carryOver(from, to);
		expect(readFileSync(join(to.folder, "web.mrseq"), "utf8")).toBe("7");
		expect([readdirSync(to.folder).sort(), readdirSync(to.statusFolder)]).toEqual([["status", "web.mrseq"], []]);
	});

	test.each(oddThings)(
		"(%s) are logs that are begun anew, not waited for, and nothing is cut elsewhere",
		async (make) => {
			const path = join(folder, "enable.out");
			execFileSync("sh", ["-c", `${make} "$0"`, path]);
			{
				await using file = await openOutput(path);
				await file.writeFile("said\n");
			}
			expect(await readTail(path)).toBe("said\n");
			const log = join(folder, "CommandExecution.log");
			execFileSync("sh", ["-c", `${make} "$0"`, log]);
			await appendCommandLog(log, "ended\n");
			expect(readFileSync(log, "utf8")).toBe("ended\n");
			const state = join(folder, "Acme.Test-1.0");
			mkdirSync(join(state, "config"), { recursive: true });
			writeFileSync(join(state, "HandlerManifest.json"), JSON.stringify([manifestText]));
			execFileSync("sh", ["-c", `${make} "$0"`, join(state, "config/HandlerState")]);
			expect(await findInstalled(folder)).toMatchObject([{ state: "NotInstalled" }]);
		},
	);
});

describe("dependencies", () => {
	const unit = (id: string, ...dependsOn: string[]) => ({ id, handler: id.split("/")[0] as string, dependsOn });

	test("a cycle is a fault of those on it and of nobody else", () => {
		const { faults } = checkGraph([unit("A", "B"), unit("B", "C"), unit("C", "A"), unit("D", "A"), unit("E")]);
		expect([...faults.keys()]).toEqual(["A", "B", "C"]);
		expect(faults.get("A")?.message).toBe("A: dependsOn: a cycle: A -> B -> C -> A");
	});

	test("on itself, and on nobody", () => {
		const { faults } = checkGraph([unit("A", "A"), unit("B", "Nobody")]);
		expect(faults.get("A")?.message).toContain("A -> A");
		expect(faults.get("B")?.message).toContain("there is no enabled extension Nobody");
	});

	test("a handler's name stands for all of its instances", () => {
		const { waitsFor } = checkGraph([unit("A/x"), unit("A/y"), unit("B", "A"), unit("C", "A/y")]);
		expect(waitsFor.get("B")).toEqual(["A/x", "A/y"]);
		expect(waitsFor.get("C")).toEqual(["A/y"]);
	});
});

describe("a status file", () => {
	const text = (status: Record<string, unknown>) => JSON.stringify([{ version: "1.0", status }]);

	test.each([
		["nothing", ""],
		["half of it", '[{"status":{"status":"succ'],
		["no array", '{"status":{}}'],
		["an empty array", "[]"],
		["an unknown word", '[{"status":{"status":"done"}}]'],
		["a code that is no number", '[{"status":{"status":"success","code":"x"}}]'],
	])("of %s is named, and is error 1012 when it stays so", async (_what, content) => {
		expect(typeof parseHandlerStatus(content, "/x", 1)).toBe("string");
		const path = join(folder, "0.status");
		writeFileSync(path, content);
		const read = await readHandlerStatus(path, { tries: 2, everyMs: 1 });
		expect(read).toMatchObject({ status: "error", code: 1012 });
	});

	test("that is not there is transitioning; one of a loose hand is read", async () => {
		expect(await readHandlerStatus(join(folder, "none"))).toMatchObject({ status: "transitioning", code: 0 });
		const loose = `\ufeff${text({ status: "Success", code: "3", substatus: [{ status: "warning" }] })}`;
		expect(parseHandlerStatus(loose, "/x", 1)).toMatchObject({
			status: "success",
			code: 3,
			message: "",
			substatus: [{ name: "", status: "warning", code: 0 }],
		});
	});

	test.each(badFiles)("that is $name is error 1012, and is not waited for", async ({ put }) => {
		const path = join(folder, "0.status");
		put(path);
		expect(await readHandlerStatus(path, { tries: 1, everyMs: 0 })).toMatchObject({ status: "error", code: 1012 });
	});

	test("with a hundred thousand parts is cut to what can be told", () => {
		const parts = Array.from({ length: 100_000 }, () => ({ name: "x", status: "error" }));
		const text = JSON.stringify([{ status: { status: "success", substatus: parts } }]);
		expect(parseHandlerStatus(text, "/x", 0)).toMatchObject({ substatus: { length: 256 } });
	});

	test("over 128 KB is cut as Azure cuts, one below is not", () => {
		const message = "m".repeat(5_000);
		const sub = { name: "s", status: "success", formattedMessage: { message: "x".repeat(200_000) } };
		const large = parseHandlerStatus(
			text({ status: "error", formattedMessage: { message }, substatus: [sub] }),
			"/x",
			1,
		);
		if (typeof large === "string") throw new Error(large);
		expect(large.message).toHaveLength(1_025);
		expect(large.substatus[0]?.message).toHaveLength(10 * 1_024 + 1);
		expect(parseHandlerStatus(text({ status: "error", formattedMessage: { message } }), "/x", 1)).toMatchObject({
			message,
		});
	});

	test("a heartbeat that is none", () => {
		for (const bad of ["", "[]", "{}", '[{"heartbeat":{}}]']) expect(parseHeartbeat(bad)).toBeUndefined();
	});
});

describe("settings files", () => {
	const place = () =>
		placeOf({ stateDir: folder, extensionsDir: folder, logDir: folder }, handlerManifestSchema.parse(manifestText));
	const read = (name: string) => readFileSync(join(place().configFolder, name), "utf8");

	test("of other numbers lose their secrets and keep their time; those of other instances are left alone", async () => {
		mkdirSync(place().configFolder, { recursive: true });
		const old = JSON.stringify({
			runtimeSettings: [{ handlerSettings: { protectedSettings: "AAAA", publicSettings: { a: 1 } } }],
		});
		for (const name of ["9.settings", "red.9.settings"]) {
			writeFileSync(join(place().configFolder, name), old);
			utimesSync(join(place().configFolder, name), 1_000, 1_000);
		}
		writeFileSync(join(place().configFolder, "8.settings"), "{half");
		await writeSettings(place(), { sequenceNumber: 3 }, undefined);
		expect(JSON.parse(read("9.settings")).runtimeSettings[0].handlerSettings).toEqual({
			protectedSettings: "",
			publicSettings: { a: 1 },
		});
		expect(statSync(join(place().configFolder, "9.settings")).mtimeMs).toBe(1_000_000);
		expect(read("red.9.settings")).toBe(old);
		expect(JSON.parse(read("3.settings"))).toEqual({ runtimeSettings: [{ handlerSettings: {} }] });
	});

	test("an instance that is enabled and no longer wanted is found, with its last number", async () => {
		await writeSettings(place(), { sequenceNumber: 3, publicSettings: {} }, "red");
		await writeHandlerState(place(), "Enabled", "red");
		await writeHandlerState(place(), "Enabled", "blue");
		await writeHandlerState(place(), "Enabled");
		expect(await findOtherInstances(place(), ["blue"])).toEqual([{ instance: "red", sequenceNumber: 3 }]);
	});

	test("a job keeps its start over restarts of the agent, a new number begins anew", async () => {
		const { private: own } = place();
		mkdirSync(own.folder, { recursive: true });
		const at = (ms: number) => new Date(ms);
		expect(await noteJobStart(own, undefined, 1, at(1_000))).toBe(1_000);
		expect(await noteJobStart(own, undefined, 1, at(5_000))).toBe(1_000);
		expect(await noteJobStart(own, undefined, 1, at(500))).toBe(500);
		expect(await noteJobStart(own, undefined, 2, at(9_000))).toBe(9_000);
	});
});

describe("events", () => {
	const event = (Message: string) => ({
		Version: "1.0",
		Timestamp: "t",
		TaskName: "n",
		EventLevel: "Error",
		Message,
		EventPid: "1",
		EventTid: "1",
		OperationId: "o",
	});
	const write = (name: string, content: unknown, time: number) => {
		const path = join(folder, name);
		writeFileSync(path, typeof content === "string" ? content : JSON.stringify(content));
		utimesSync(path, time, time);
	};

	test("are taken newest first up to the limit; malformed ones are named, young halves wait", async () => {
		write("1.json", [event("old"), event("older")], 100);
		write("2.json", event("new"), 200);
		write("3.json", "{half", 100);
		write("4.json", "{being written", 1_000);
		write("5.json", { ...event("x"), OperationId: undefined }, 100);
		write("notes.txt", "x", 100);
		const found = await collectEvents(folder, 2, 1_000_500);
		expect(found.events.map(({ Message }) => Message)).toEqual(["older", "new"]);
		expect(found.waiting).toBe(1);
		expect(found.paths).toHaveLength(4);
		expect(found.refused.join("\n")).toMatch(/3\.json is no JSON/);
		expect(found.refused.join("\n")).toMatch(/5\.json: OperationId/);
		expect(found.refused.join("\n")).toMatch(/1 events over the limit/);
	});

	test("a long message is cut, a large event refused", () => {
		expect(parseEvent(event("m".repeat(5_000)), "/x")).toMatchObject({ Message: "m".repeat(3_072) });
		expect(parseEvent({ ...event(""), TaskName: "n".repeat(7_000) }, "/x")).toMatch(/larger than 6144 bytes/);
	});
});

describe("a manifest", () => {
	const parse = (more: Record<string, unknown>, top: Record<string, unknown> = {}) =>
		handlerManifestSchema.parse({
			...manifestText,
			...top,
			handlerManifest: { ...manifestText.handlerManifest, ...more },
		});

	test("has Azure's defaults, and booleans that are text", () => {
		expect(parse({}).handlerManifest).toMatchObject({
			updateMode: "UpdateWithInstall",
			continueOnUpdateFailure: false,
			supportsMultipleExtensions: false,
			reportHeartbeat: false,
		});
		const told = parse({ reportHeartbeat: "True", continueOnUpdateFailure: "false", rebootAfterInstall: "required" });
		expect(told.handlerManifest).toMatchObject({
			reportHeartbeat: true,
			continueOnUpdateFailure: false,
			rebootAfterInstall: true,
		});
		expect(() => parse({ reportHeartbeat: "yes" })).toThrow();
	});

	test("cannot raise a command's limit: a field for it is not known", () => {
		expect(parse({ enableTimeout: 9_999 }).handlerManifest).not.toHaveProperty("enableTimeout");
	});
});

test("restarts come later each time, up to the last delay, with jitter, and anew after a quiet time", () => {
	const limits = { restartFirstMs: 1_000, restartLastMs: 300_000, quietMs: 600_000 };
	const highest = makeRestartDelay(limits, () => 1);
	expect([0, 0, 0].map((lived) => highest.nextMs(lived))).toEqual([1_000, 2_000, 4_000]);
	for (let times = 0; times < 20; times += 1) highest.nextMs(0);
	expect(highest.nextMs(0)).toBe(300_000);
	expect(highest.nextMs(600_000)).toBe(1_000);
	expect(makeRestartDelay(limits, () => 0).nextMs(0)).toBe(500);
});

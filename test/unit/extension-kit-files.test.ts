import { execFileSync } from "node:child_process";
import {
	mkdirSync,
	mkdtempSync,
	readdirSync,
	readFileSync,
	rmSync,
	statSync,
	truncateSync,
	writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { handlerStatusFileSchema } from "../../contracts/extension.ts";
import { endDetachedJobs, findDetachedJob } from "../../extensions/kit/detached-job.ts";
import { readHandlerEnvironment } from "../../extensions/kit/handler-environment.ts";
import { writeHandlerEvent } from "../../extensions/kit/handler-events.ts";
import { openHandlerLog } from "../../extensions/kit/handler-log.ts";
import { statusFileContent, statusFilePath } from "../../extensions/kit/handler-status.ts";
import { keepHeartbeat, writeHeartbeat } from "../../extensions/kit/heartbeat-file.ts";
import { instancePrefix, parseSequenceNumber } from "../../extensions/kit/instance-name.ts";
import { maskSecrets } from "../../extensions/kit/mask-secrets.ts";
import { mostRecentSequence } from "../../extensions/kit/most-recent-sequence.ts";
import { findStartTicks, readBootId } from "../../extensions/kit/process-identity.ts";
import { findStatus, openStatusReporter } from "../../extensions/kit/status-reporter.ts";

let folder: string;
beforeEach(() => {
	folder = mkdtempSync(join(tmpdir(), "stillpoint-kit-files-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

describe("the most recent sequence number", () => {
	test.each([
		["no number", "seven"],
		["a number that is too long", "12345678901"],
		["an empty file", ""],
	])("%s is refused: whether the work was done can't be told", async (_what, text) => {
		writeFileSync(join(folder, "mrseq"), text);
		await expect(mostRecentSequence(folder).alreadyDone(1)).rejects.toMatchObject({ code: "settings-invalid" });
	});

	test("that is a FIFO is not waited for", async () => {
		execFileSync("mkfifo", [join(folder, "mrseq")]);
		await expect(mostRecentSequence(folder).find()).rejects.toThrow("not a regular file");
	});

	test("is kept by instance, and a smaller number is new", async () => {
		const web = mostRecentSequence(folder, "web");
		await web.begin(7);
		expect([await web.alreadyDone(7), await web.alreadyDone(6)]).toEqual([true, false]);
		expect(await mostRecentSequence(folder).find()).toBeUndefined();
		expect(readdirSync(folder)).toEqual(["web.mrseq"]);
	});

	test("of Azure's handlers that have none yet, -1, is read", async () => {
		writeFileSync(join(folder, "mrseq"), "-1\n");
		expect(await mostRecentSequence(folder).alreadyDone(0)).toBe(false);
	});
});

describe("names of files", () => {
	test.each(["../x", "a/b", ".", "..", "a\0", "x".repeat(129), "a\nb"])("the instance %j is refused", (name) => {
		expect(() => instancePrefix(name)).toThrow("no name for a file");
		expect(() => statusFilePath(folder, { sequenceNumber: 1, extensionName: name })).toThrow();
	});

	test.each(["-1", "1.5", "0x1", "12345678901", " 1", "../1"])("the sequence number %j is refused", (text) => {
		expect(() => parseSequenceNumber(text)).toThrow("no number");
	});

	test("are made of instance and sequence number", () => {
		expect(statusFilePath("/s", { sequenceNumber: 3, extensionName: "web" })).toBe("/s/web.3.status");
		expect(statusFilePath("/s", { sequenceNumber: 3 })).toBe("/s/3.status");
		expect([parseSequenceNumber("12"), parseSequenceNumber(""), parseSequenceNumber(undefined)]).toEqual([
			12,
			undefined,
			undefined,
		]);
	});
});

describe("a status", () => {
	const base = { name: "X", operation: "Enable", status: "error", code: 5 } as const;
	const part = (message: string, name = "part") => ({ name, status: "error" as const, code: 1, message });
	const read = (text: string) => handlerStatusFileSchema.parse(JSON.parse(text))[0]?.status;

	test("of more than 128 KB is cut until hosts read it, and keeps its word and code", () => {
		const long = "ä".repeat(100_000);
		const many = Array.from({ length: 5_000 }, () => part("", "a part of a name"));
		for (const status of [
			{ ...base, message: long },
			{ ...base, message: "m", substatus: [part(long)] },
			{ ...base, message: long, substatus: [part(long), part("b")] },
			{ ...base, message: "m", substatus: [part("", long)] },
			{ ...base, message: "m", substatus: many },
			{ ...base, operation: long, message: "m" },
		]) {
			const text = statusFileContent(status, new Date());
			expect(Buffer.byteLength(text)).toBeLessThanOrEqual(128 * 1024);
			expect(read(text)).toMatchObject({ status: "error", code: 5 });
		}
	});

	test("is told again while it is transitioning only, and masks secrets", async () => {
		const path = join(folder, "1.status");
		const status = openStatusReporter({
			path,
			name: "X",
			operation: "Job",
			now: () => new Date(),
			protectedSettings: { deep: [{ password: "horse-battery" }], pin: "12" },
		});
		await status.report({ status: "transitioning", message: "with horse-battery and 12" });
		expect(readFileSync(path, "utf8")).toContain("with [secret] and 12");
		const ended = new AbortController();
		const repeating = status.repeat(ended.signal, 5);
		const before = statSync(path).ino;
		await expect.poll(() => statSync(path).ino, { timeout: 10_000, interval: 5 }).not.toBe(before);
		await status.report({
			status: "success",
			message: "done",
			substatus: [{ ...part("horse-battery"), status: "success" }],
		});
		ended.abort();
		await repeating;
		expect([status.isTerminal(), await findStatus(path)]).toEqual([true, "success"]);
		expect(readFileSync(path, "utf8")).not.toContain("horse");
	});

	test("that cannot be written says where, and a later one may be", async () => {
		const path = join(folder, "status", "1.status");
		writeFileSync(join(folder, "status"), "");
		const status = openStatusReporter({
			path,
			name: "X",
			operation: "Job",
			now: () => new Date(),
			protectedSettings: {},
		});
		const report = () => status.report({ status: "success", message: "fine" });
		await expect(report()).rejects.toMatchObject({ code: "state-unusable", message: expect.stringContaining(path) });
		rmSync(join(folder, "status"));
		await report();
		expect(await findStatus(path)).toBe("success");
		writeFileSync(path, "[{");
		expect(await findStatus(path)).toBeUndefined();
	});
});

describe("a job that is written down", () => {
	const put = (job: unknown) =>
		writeFileSync(join(folder, "job.json"), typeof job === "string" ? job : JSON.stringify(job));
	const own = async () => ({
		pid: process.pid,
		startTicks: (await findStartTicks(process.pid)) ?? "",
		bootId: await readBootId(),
		sequenceNumber: 1,
	});

	test.each(["", "{", "[]", '{"pid":1}', '{"pid":0,"startTicks":"1","bootId":"x","sequenceNumber":1}'])(
		"as %j is refused, and nothing is ended",
		async (text) => {
			put(text);
			await expect(findDetachedJob(folder)).rejects.toMatchObject({ code: "settings-invalid" });
			await expect(endDetachedJobs(folder, {})).rejects.toMatchObject({ code: "settings-invalid" });
		},
	);

	test("lives by process, start and boot: an id that is used again, or an earlier boot, is another", async () => {
		put(await own());
		expect(await findDetachedJob(folder)).toMatchObject({ sequenceNumber: 1 });
		for (const other of [{ startTicks: "1" }, { bootId: "another" }, { pid: 2 ** 22 - 1 }]) {
			put({ ...(await own()), ...other });
			expect(await findDetachedJob(folder)).toBeUndefined();
			// This very process would be ended.
			expect(await endDetachedJobs(folder, {})).toEqual([]);
			expect(readdirSync(folder)).toEqual([]);
		}
	});

	test("of another instance is left alone", async () => {
		put({ ...(await own()), startTicks: "1" });
		expect(await endDetachedJobs(folder, { extensionName: "web" })).toEqual([]);
		expect(readdirSync(folder)).toEqual(["job.json"]);
	});
});

describe("what a handler leaves for its host", () => {
	test("a heartbeat has Azure's shape; one whose reader throws says that it is not ready, until it is ended", async () => {
		const path = join(folder, "heartbeat.log");
		const beat = () => JSON.parse(readFileSync(path, "utf8"))[0].heartbeat;
		await writeHeartbeat(path, { ready: true, message: "serving" });
		expect(beat()).toMatchObject({ status: "ready", code: 0, formattedMessage: { message: "serving" } });
		const ended = new AbortController();
		let beats = 0;
		const read = () => {
			beats += 1;
			throw new Error("no connection");
		};
		const keeping = keepHeartbeat(path, read, { signal: ended.signal, intervalMs: 5 });
		await expect.poll(() => beats, { timeout: 10_000, interval: 5 }).toBeGreaterThan(2);
		ended.abort();
		await keeping;
		expect(beat()).toMatchObject({ status: "notready", formattedMessage: { message: "no connection" } });
	});

	test("events have every field, names of digits, and a cut message", async () => {
		const event = { level: "Warning", task: "T", message: "m".repeat(10_000) } as const;
		const now = new Date();
		for (let times = 0; times < 5; times += 1) await writeHandlerEvent(folder, event, { version: "1", now, pid: 7 });
		const names = readdirSync(folder);
		expect(names).toHaveLength(5);
		for (const name of names) expect(name).toMatch(/^\d+\.json$/);
		const [record] = JSON.parse(readFileSync(join(folder, names[0] ?? ""), "utf8"));
		expect(record).toMatchObject({
			Version: "1",
			TaskName: "T",
			EventLevel: "Warning",
			EventPid: "7",
			OperationId: "",
		});
		expect(record.Message).toHaveLength(3_072);
	});

	test("a log is one line an entry, is kept short, and stops nothing when it cannot be written", async () => {
		const log = openHandlerLog(folder, "x", () => new Date(0));
		await Promise.all([log.write("a\nb"), log.write("c")]);
		const path = join(folder, "x.log");
		expect(readFileSync(path, "utf8")).toBe("1970-01-01T00:00:00.000Z a | b\n1970-01-01T00:00:00.000Z c\n");
		truncateSync(path, 6 * 1024 * 1024);
		await log.write("d");
		expect([readdirSync(folder).sort(), statSync(path).size < 100]).toEqual([["x.log", "x.log.1"], true]);
		rmSync(path);
		mkdirSync(path);
		await log.write("e");
	});

	test("secrets are masked wherever they stand, longer ones first; what is no text is left", () => {
		const secrets = { a: "secret", b: { c: ["secret-more", 17, null, true] }, d: "no" };
		expect(maskSecrets("secret-more, secret, no, 17", secrets)).toBe("[secret], [secret], no, 17");
		expect(maskSecrets("a.*b$[x], axxb", { a: "a.*b$[x]" })).toBe("[secret], axxb");
	});
});

test.each([
	["Azure's", { version: 1.0, folders: { eventsFolder: "/e", eventsFolder_preview: "/p" }, events: "/e" }],
	["an older one's", { version: "1.0", folders: { eventsFolder_preview: "/p" }, events: "/p" }],
	["one's without events", { version: 1, folders: { more: 1 }, events: undefined }],
])("the environment is read as %s", async (_whose, { version, folders, events }) => {
	const handlerEnvironment = {
		logFolder: "/l",
		configFolder: "/c",
		statusFolder: "/s",
		heartbeatFile: "/h",
		...folders,
	};
	writeFileSync(
		join(folder, "HandlerEnvironment.json"),
		JSON.stringify([{ version, handlerEnvironment, roleName: "" }]),
	);
	expect(await readHandlerEnvironment(folder)).toMatchObject({
		name: undefined,
		logFolder: "/l",
		eventsFolder: events,
	});
});

import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { StillpointError } from "../../contracts/errors.ts";
import { type ExtensionEvent, handlerStatusFileSchema, type SnapshotRequest } from "../../contracts/extension.ts";
import { noOtherScripts } from "../../contracts/other-scripts.ts";
import { CommandInbox } from "../../extensions/kit/command-inbox.ts";
import { runHandlerCommand } from "../../extensions/kit/handler-commands.ts";
import { statusFileContent, writeHandlerStatus } from "../../extensions/kit/handler-status.ts";
import { maxRequestBytes, readHostLine } from "../../extensions/kit/host-line.ts";
import { parseRequest } from "../../extensions/kit/parse-request.ts";
import { runSnapshotCommand } from "../../extensions/kit/run-snapshot-command.ts";
import type { ConnectHost } from "../../extensions/kit/snapshot-host.ts";

const request: SnapshotRequest = {
	schemaVersion: 1,
	order: {
		jobId: "job-1",
		level: "file-system",
		acceptLevel: "crash",
		disks: { include: ["vdb"] },
		startWithinMs: 0,
		holdLimitMs: 1000,
		prepareLimitMs: 5000,
		snapshot: "reported",
	},
	holdLimitMs: 1000,
	fileSystems: { include: [], exclude: [] },
	tempDisks: [],
	scriptsFolder: "/etc/stillpoint/scripts.d",
	otherScripts: noOtherScripts,
	runFolder: "/run/stillpoint",
	hostFolders: [],
	statusFile: "/x/0.status",
	extension: { name: "Example", version: "1.0" },
	channel: { socketPath: "/run/stillpoint/agent.sock", token: "t" },
};

describe("the request line", () => {
	test("is read whatever pieces it comes in, and what follows it is ignored", async () => {
		const stdin = new PassThrough();
		const reading = readRequestLine(stdin, 1000);
		const text = `${JSON.stringify(request)}\n{"more": true}\n`;
		for (let at = 0; at < text.length; at += 100) stdin.write(text.slice(at, at + 100));
		expect((await reading).request).toEqual(request);
	});

	test.each([
		["no JSON", "freeze!\n", "message-invalid"],
		["an empty line", "\n", "message-invalid"],
		["an unknown field", `${JSON.stringify({ ...request, shell: "sh" })}\n`, "message-invalid"],
		["a missing field", `${JSON.stringify({ ...request, order: undefined })}\n`, "message-invalid"],
		["a field of another type", `${JSON.stringify({ ...request, holdLimitMs: "10s" })}\n`, "message-invalid"],
		["another version", `${JSON.stringify({ ...request, schemaVersion: 2 })}\n`, "message-invalid"],
		["a line without end that is too long", "x".repeat(maxRequestBytes + 1), "message-too-large"],
	])("%s is refused", async (_what, text, code) => {
		const stdin = new PassThrough();
		const reading = readRequestLine(stdin, 1000);
		stdin.write(text);
		await expect(reading).rejects.toMatchObject({ code });
	});

	test("a job id that is no file name is refused, naming the field", async () => {
		const stdin = new PassThrough();
		const reading = readRequestLine(stdin, 1000);
		stdin.write(`${JSON.stringify({ ...request, order: { ...request.order, jobId: "../../etc/x" } })}\n`);
		await expect(reading).rejects.toThrow("order.jobId");
	});

	test("cut off by the end of stdin means that the host is gone", async () => {
		const stdin = new PassThrough();
		const reading = readRequestLine(stdin, 1000);
		stdin.end(JSON.stringify(request).slice(0, 40));
		await expect(reading).rejects.toMatchObject({ code: "asker-lost" });
	});

	test("that never comes is not waited for without end", async () => {
		await expect(readRequestLine(new PassThrough(), 20)).rejects.toMatchObject({ code: "deadline-passed" });
	});
});

describe("the inbox of commands", () => {
	const freeze = { type: "freeze", jobId: "job-1" } as const;

	test("keeps a command until somebody waits for it", async () => {
		const inbox = new CommandInbox();
		inbox.push(freeze);
		expect(await inbox.wait(["freeze", "release"], AbortSignal.timeout(100))).toEqual(freeze);
	});

	test("hands it to who waits, and the first of a kind counts", async () => {
		const inbox = new CommandInbox();
		const waiting = inbox.wait(["release"], AbortSignal.timeout(1000));
		inbox.push(freeze);
		inbox.push({ type: "release", jobId: "job-1" });
		inbox.push({ type: "release", jobId: "job-1", error: { code: "cancelled", message: "late" } });
		expect(await waiting).toEqual({ type: "release", jobId: "job-1" });
		expect(await inbox.wait(["release"], AbortSignal.timeout(100))).toEqual({ type: "release", jobId: "job-1" });
	});

	test("rejects with the reason of the signal, also of one that was aborted before", async () => {
		const reason = new StillpointError("cancelled", "now");
		await expect(new CommandInbox().wait(["done"], AbortSignal.abort(reason))).rejects.toBe(reason);
		const controller = new AbortController();
		const waiting = new CommandInbox().wait(["done"], controller.signal);
		controller.abort(reason);
		await expect(waiting).rejects.toBe(reason);
	});
});

async function readRequestLine(stdin: PassThrough, limitMs: number) {
	const { text } = await readHostLine(stdin, limitMs);
	return { request: parseRequest(text) };
}

describe("a snapshot command", () => {
	function channel() {
		const events: ExtensionEvent[] = [];
		const told: { notify?: (name: "extension.command", params: unknown) => void; close?: () => void } = {};
		return {
			events,
			told,
			connect: (options: {
				onNotification(name: "extension.command" | "job.event", params: unknown): void;
				onClosed(): void;
			}) => {
				told.notify = options.onNotification;
				told.close = options.onClosed;
				return Promise.resolve({
					call: (name: string, params: { token: string; event?: ExtensionEvent }) => {
						if (params.token !== "t") return Promise.reject(new StillpointError("not-allowed", "token"));
						if (name === "extension.event" && params.event) events.push(params.event);
						return Promise.resolve({});
					},
					[Symbol.asyncDispose]: () => Promise.resolve(),
				});
			},
		};
	}

	async function run(given: {
		token?: string;
		during: (told: ReturnType<typeof channel>, stdin: PassThrough) => void;
	}) {
		const stdin = new PassThrough();
		const made = channel();
		const signals = new AbortController();
		let reason: unknown;
		let stderr = "";
		const running = runSnapshotCommand({
			stdin,
			line: readHostLine(stdin, 1000),
			connect: made.connect as unknown as ConnectHost,
			signal: signals.signal,
			stderr: { write: (text: string) => (stderr += text) },
			work: async (host) => {
				await host.send({ type: "phase", jobId: "job-1", phase: "planning" });
				given.during(made, stdin);
				await Promise.race([
					host.commands.wait(["freeze"], host.ending).catch((error: unknown) => {
						reason = error;
						throw error;
					}),
					sleep(2000),
				]);
			},
		});
		const channelOf = { ...request.channel, token: given.token ?? "t" };
		stdin.write(`${JSON.stringify({ ...request, channel: channelOf })}\n`);
		return { status: await running, reason, stderr, events: made.events };
	}

	test("attaches, sends and hears", async () => {
		const { status, events } = await run({
			during: ({ told }) => told.notify?.("extension.command", { type: "freeze", jobId: "job-1" }),
		});
		expect(status).toBe(0);
		expect(events).toEqual([
			{ type: "alive", jobId: "job-1" },
			{ type: "phase", jobId: "job-1", phase: "planning" },
		]);
	});

	test.each<[string, Parameters<typeof run>[0]["during"], string]>([
		[
			"a cancel",
			({ told }) => told.notify?.("extension.command", { type: "cancel", jobId: "job-1", code: "stopping" }),
			"stopping",
		],
		["the end of stdin", (_, stdin) => stdin.end(), "asker-lost"],
		["the end of the channel", ({ told }) => told.close?.(), "asker-lost"],
	])("%s ends it by its reason", async (_what, during, code) => {
		const { status, reason, stderr } = await run({ during });
		expect(reason).toMatchObject({ code });
		expect(status).toBe(8);
		expect(JSON.parse(stderr).error.code).toBe(code);
	});

	test("what is no command, or of another job, is not heard", async () => {
		const { reason } = await run({
			during: ({ told }, stdin) => {
				told.notify?.("extension.command", { type: "freeze", jobId: "another" });
				told.notify?.("extension.command", { type: "melt", jobId: "job-1" });
				told.notify?.("extension.command", null);
				setTimeout(() => stdin.end(), 50);
			},
		});
		expect(reason).toMatchObject({ code: "asker-lost" });
	});

	test("a wrong token ends it before any work", async () => {
		const { status, events } = await run({ token: "x", during: () => undefined });
		expect(status).toBe(5);
		expect(events).toEqual([]);
	});
});

describe("handler files", () => {
	let folder: string;
	beforeEach(async () => {
		folder = await mkdtemp(join(tmpdir(), "stillpoint-kit-"));
	});
	afterEach(async () => {
		await rm(folder, { recursive: true });
	});

	test("a status file has Azure's shape, and is replaced in one step", async () => {
		const path = join(folder, "3.status");
		for (const status of ["transitioning", "success"] as const) {
			await writeHandlerStatus(
				path,
				{ name: "X", operation: "Snapshot", status, code: 0, message: status },
				new Date(),
			);
			const [file] = handlerStatusFileSchema.parse(JSON.parse(await readFile(path, "utf8")));
			expect(file?.status).toMatchObject({ name: "X", status, formattedMessage: { message: status } });
		}
		expect(await readdir(folder)).toEqual(["3.status"]);
	});

	test("a message that is too large for the Azure agent is replaced by a short one", () => {
		const substatus = [{ name: "report", status: "success" as const, code: 0, message: "x".repeat(200_000) }];
		const status = {
			name: "X",
			operation: "Snapshot",
			status: "success" as const,
			code: 0,
			message: "fine",
			substatus,
		};
		const text = statusFileContent(status, new Date());
		expect(text.length).toBeLessThan(2_000);
		expect(handlerStatusFileSchema.parse(JSON.parse(text))[0]?.status.substatus).toHaveLength(1);
	});

	test("a status file that can't be written leaves nothing behind", async () => {
		await mkdir(join(folder, "3.status"));
		const writing = writeHandlerStatus(
			join(folder, "3.status"),
			{ name: "X", operation: "Snapshot", status: "success", code: 0, message: "" },
			new Date(),
		);
		await expect(writing).rejects.toThrow();
		expect(await readdir(folder)).toEqual(["3.status"]);
	});

	test("enable says in its status file whether the machine can do it", async () => {
		await writeFile(
			join(folder, "HandlerEnvironment.json"),
			JSON.stringify([
				{
					name: "X",
					version: 1,
					handlerEnvironment: {
						logFolder: folder,
						configFolder: folder,
						statusFolder: folder,
						heartbeatFile: join(folder, "heartbeat"),
						eventsFolder: folder,
					},
				},
			]),
		);
		const command = { packageFolder: folder, sequenceNumber: "7", handlerName: "X", now: () => new Date() };
		const able = () => Promise.resolve();
		const unable = () => Promise.reject(new StillpointError("root-required", "not root"));
		expect(await runHandlerCommand({ ...command, name: "enable", check: able })).toContain("ready");
		expect(await statusOf("7.status")).toMatchObject({ status: "success", code: 0 });
		await expect(runHandlerCommand({ ...command, name: "enable", check: unable })).rejects.toMatchObject({
			code: "root-required",
		});
		expect(await statusOf("7.status")).toMatchObject({ status: "error", code: 1009 });
		await runHandlerCommand({ ...command, sequenceNumber: "../../x", name: "enable", check: able });
		expect(await readdir(folder)).toContain("0.status");
	});

	test("the other commands do nothing and say so; install refuses a machine that can't", async () => {
		const command = { packageFolder: folder, sequenceNumber: undefined, handlerName: "X", now: () => new Date() };
		const unable = () => Promise.reject(new StillpointError("root-required", "not root"));
		for (const name of ["disable", "update", "uninstall"] as const) {
			expect(await runHandlerCommand({ ...command, name, check: unable })).toContain("nothing");
		}
		await expect(runHandlerCommand({ ...command, name: "install", check: unable })).rejects.toThrow("not root");
		await expect(runHandlerCommand({ ...command, name: "enable", check: unable })).rejects.toMatchObject({
			code: "extension-invalid",
		});
		expect(await readdir(folder)).toEqual([]);
	});

	async function statusOf(name: string) {
		return handlerStatusFileSchema.parse(JSON.parse(await readFile(join(folder, name), "utf8")))[0]?.status;
	}
});

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import { Readable } from "node:stream";
import * as fc from "fast-check";
import { Inbox } from "../../../command-line/inbox.ts";
import { checkShape } from "../../../contracts/check-shape.ts";
import { StillpointError } from "../../../contracts/errors.ts";
import { extensionCommandSchema, recoverAnswerSchema } from "../../../contracts/extension.ts";
import { freezerCommandSchema, freezerEventSchema } from "../../../contracts/freezer-protocol.ts";
import { type LocalCallName, localCalls } from "../../../contracts/local-calls.ts";
import { readHostLine } from "../../../extensions/kit/host-line.ts";
import { parseRequest } from "../../../extensions/kit/parse-request.ts";
import { createLineSplitter, parseFreezerCommand } from "../../../platform/linux/freezer/command-lines.ts";
import { connectLocalChannel, type LocalHandlers, serveLocalChannel } from "../../../platform/local-channel.ts";
import { wireCallSchema, wireNotifySchema, wireReplySchema } from "../../../platform/local-wire.ts";
import { type FuzzTarget, fuzzTarget, neverThrows } from "../fuzz-target.ts";
import { hostileText } from "../inputs/hostile-values.ts";
import { mutatedBytes } from "../inputs/mutated-bytes.ts";
import { mutatedJson, mutatedValue } from "../inputs/mutated-json.ts";
import {
	extensionEvents,
	freezerCommands,
	freezerEvents,
	holdCommands,
	holdEvents,
	orders,
	reports,
} from "../samples/documents.ts";

const snapshotRequests = orders.map((order) => ({
	schemaVersion: 1,
	order,
	holdLimitMs: 10_000,
	fileSystems: { include: [], exclude: [{ mountPoint: "/tmp/*" }] },
	tempDisks: ["sdb"],
	scriptsFolder: "/etc/stillpoint/scripts.d",
	runFolder: "/run/stillpoint",
	hostFolders: ["/var/lib/stillpoint"],
	statusFile: "/s",
	extension: { name: "x", version: "1.0" },
	channel: { socketPath: "/run/stillpoint/agent.sock", token: "t" },
}));

const callParams: readonly (readonly [LocalCallName, unknown])[] = [
	["agent.status", {}],
	...orders.map((order) => ["job.order", { order }] as const),
	...holdCommands.map((command) => ["job.command", { command }] as const),
	["job.report", { jobId: "job-1" }],
	["job.list", { limit: 5 }],
	["extension.attach", { token: "t", jobId: "job-1" }],
	...extensionEvents.map((event) => ["extension.event", { token: "t", event }] as const),
];
const calls = callParams.map(([name, params], id) => ({ protocol: 1, id, name, params, limitMs: 1_000 }));

export async function localMessageTargets(folder: string): Promise<FuzzTarget[]> {
	const json = (samples: readonly unknown[]) => mutatedJson(fc.constantFrom(...samples));
	return [
		fuzzTarget({
			name: "freezer-command",
			parser: "platform/linux/freezer/command-lines.ts parseFreezerCommand",
			inputs: json(freezerCommands),
			run: (line) => {
				const wanted = checkShape(freezerCommandSchema, parsedOrUndefined(line));
				const found = outcomeOf(() => parseFreezerCommand(line));
				// By hand and by the schema: the same answer to whatever comes.
				assert.equal("value" in found, wanted.success, "the hand-written parser and the schema differ");
				if ("value" in found) assert.deepEqual({ ...(found.value as object) }, { ...wanted.data });
			},
			mayThrow: neverThrows,
		}),
		fuzzTarget({
			name: "freezer-lines",
			parser: "platform/linux/freezer/command-lines.ts createLineSplitter",
			inputs: fc.array(
				fc.oneof(
					fc.uint8Array({ maxLength: 300 }).map((bytes) => Buffer.from(bytes)),
					fc.constantFrom(...freezerCommands).map((one) => Buffer.from(`${JSON.stringify(one)}\n`)),
				),
				{ maxLength: 20 },
			),
			run: (chunks) => {
				const lines = outcomeOf(() => {
					const splitter = createLineSplitter(1_000);
					return chunks.flatMap((chunk) => splitter.push(chunk));
				});
				const expected = Buffer.concat(chunks).toString("latin1").split("\n");
				const isLong = expected.some((line) => line.length > 1_000);
				if (isLong) assert.ok("error" in lines);
				else
					assert.deepEqual(lines, {
						value: expected.slice(0, -1).map((line) => Buffer.from(line, "latin1").toString("utf8")),
					});
			},
			mayThrow: neverThrows,
		}),
		fuzzTarget({
			name: "freezer-event",
			parser: "contracts/freezer-protocol.ts freezerEventSchema",
			inputs: mutatedValue(fc.constantFrom(...freezerEvents)),
			run: (value) => void checkShape(freezerEventSchema, value),
			mayThrow: neverThrows,
		}),
		fuzzTarget({
			name: "wire-envelopes",
			parser: "platform/local-wire.ts wireCallSchema, wireReplySchema, wireNotifySchema; contracts/local-calls.ts",
			inputs: mutatedValue(
				fc.constantFrom<unknown>(...calls, { id: 5, result: reports[0] }, { name: "job.event", params: holdEvents[0] }),
			),
			run: (value) => {
				checkShape(wireReplySchema, value);
				checkShape(wireNotifySchema, value);
				const call = checkShape(wireCallSchema, value);
				if (!call.success || !Object.hasOwn(localCalls, call.data.name)) return;
				const { input } = localCalls[call.data.name as LocalCallName];
				const params = checkShape(input, call.data.params);
				if (params.success) assert.deepEqual(input.parse(structuredClone(params.data)), params.data);
			},
			mayThrow: neverThrows,
		}),
		await channelTarget(folder),
		fuzzTarget({
			name: "asker-inbox",
			parser: "command-line/inbox.ts Inbox",
			inputs: mutatedValue(fc.constantFrom<unknown>(...holdEvents, { type: "report", report: reports[0] })),
			run: async (value) => {
				const inbox = new Inbox();
				inbox.put(value);
				await inbox.next();
			},
		}),
		fuzzTarget({
			name: "snapshot-request",
			parser: "extensions/kit/parse-request.ts parseRequest",
			inputs: json(snapshotRequests),
			run: (line) => {
				const request = parseRequest(line);
				assert.deepEqual(parseRequest(JSON.stringify(request)), request);
			},
		}),
		fuzzTarget({
			name: "host-line",
			parser: "extensions/kit/host-line.ts readHostLine",
			inputs: fc.array(fc.oneof(hostileText, fc.constantFrom('{"a":1}\n', "\n", "")), { maxLength: 8 }),
			run: async (texts) => {
				const stdin = Readable.from(texts.filter((text) => text !== "").map((text) => Buffer.from(text)));
				const { text } = await readHostLine(stdin, 2_000);
				assert.ok(!text.includes("\n") && Buffer.byteLength(text) <= 3 * 256 * 1024);
			},
		}),
		fuzzTarget({
			name: "extension-command",
			parser: "contracts/extension.ts extensionCommandSchema, recoverAnswerSchema",
			inputs: mutatedValue(
				fc.constantFrom<unknown>(
					...holdCommands,
					{ type: "quiet", jobId: "j" },
					{ jobs: [{ jobId: "j", scripts: reports[0]?.scripts }], faults: ["x"] },
				),
			),
			run: (value) => {
				checkShape(extensionCommandSchema, value);
				checkShape(recoverAnswerSchema, value);
			},
			mayThrow: neverThrows,
		}),
		scriptSessionTarget(folder),
	];
}

/** The real server on a real socket: whatever comes, others are still answered. */
async function channelTarget(folder: string): Promise<FuzzTarget> {
	const socketFolder = join(folder, "socket");
	mkdirSync(socketFolder, { mode: 0o700 });
	const socketPath = join(socketFolder, "a.sock");
	const answer = () => Promise.resolve({});
	const handlers = new Proxy({}, { get: () => answer }) as unknown as LocalHandlers;
	const state = { server: undefined as AsyncDisposable | undefined };
	const frames = calls.map((data) => Buffer.from(`${JSON.stringify({ type: "call", data })}\f`));
	return fuzzTarget({
		name: "local-channel",
		parser: "platform/local-channel.ts serveLocalChannel (node-ipc)",
		inputs: fc.array(
			fc.oneof(
				mutatedBytes(frames),
				mutatedValue(fc.constantFrom(...calls)).map((data) => Buffer.from(`${stringified({ type: "call", data })}\f`)),
			),
			{ minLength: 1, maxLength: 4 },
		),
		run: async (given) => {
			state.server ??= await serveLocalChannel({
				socketPath,
				handlers,
				isFrozen: () => false,
				signal: new AbortController().signal,
			});
			await sayTo(socketPath, given);
			await using client = await connectLocalChannel({ socketPath, connectLimitMs: 5_000 });
			await client.call("link.reload", {}, { limitMs: 5_000 });
		},
		mayThrow: neverThrows,
	});
}

async function sayTo(socketPath: string, frames: readonly Buffer[]): Promise<void> {
	const socket = connect(socketPath);
	const closed = Promise.withResolvers<void>();
	socket.on("error", () => undefined).on("close", () => closed.resolve());
	socket.resume();
	for (const frame of frames) socket.write(frame);
	socket.end();
	// The server keeps its side open until it has answered.
	const timer = setTimeout(() => socket.destroy(), 20);
	await closed.promise;
	clearTimeout(timer);
}

/** A real script by the kit, a process for each case: few cases, as many as there is time for. */
function scriptSessionTarget(folder: string): FuzzTarget {
	const script = join(folder, "session.mjs");
	const kit = new URL("../../../scripts/kit/hold-session.mjs", import.meta.url).href;
	writeFileSync(
		script,
		`import { runSession } from ${JSON.stringify(kit)};
await runSession("fuzzed", { take: async () => {}, prove: async () => undefined, letGo: async () => {} }, false);\n`,
	);
	const line = fc.oneof(
		fc.constantFrom(
			'{"jobId":"j"}\n',
			"release snapshot\n",
			"release\n",
			"released\n",
			"\n",
			"{\n",
			'{"__proto__":1}\n',
		),
		hostileText,
		fc.uint8Array({ maxLength: 50 }).map((bytes) => Buffer.from(bytes).toString("latin1")),
	);
	return fuzzTarget({
		name: "script-session",
		parser: "scripts/kit/hold-session.mjs runSession",
		inputs: fc.tuple(fc.array(line, { maxLength: 5 }), fc.boolean()),
		run: async ([lines, isJob]) => {
			const env = isJob ? { STILLPOINT_PHASE: "session" } : {};
			const child = spawn(process.execPath, [script], { stdio: ["pipe", "pipe", "pipe"], env, timeout: 10_000 });
			child.stdin.on("error", () => undefined);
			const [out, errors] = [gather(child.stdout), gather(child.stderr)];
			const ended = new Promise<[number | null, string | null]>((resolve) =>
				child.on("close", (...how) => resolve(how)),
			);
			child.stdin.end(lines.join(""));
			const [status, signal] = await ended;
			assert.equal(signal, null, "it did not end by itself");
			assert.ok(status === 0 || status === 64, `exit status ${status}: ${errors.join("")}`);
			assert.match(out.join(""), /^(|ready\n|ready\nheld\n)$/);
			assert.doesNotMatch(errors.join(""), /\n\s+at /);
		},
		mayThrow: neverThrows,
	});
}

function gather(stream: Readable): string[] {
	const texts: string[] = [];
	stream.setEncoding("utf8").on("data", (text: string) => void texts.push(text));
	return texts;
}

function outcomeOf<T>(work: () => T): { value: T } | { error: string } {
	try {
		return { value: work() };
	} catch (error) {
		if (error instanceof StillpointError && error.code !== "internal") return { error: error.code };
		throw error;
	}
}

function parsedOrUndefined(text: string): unknown {
	try {
		return JSON.parse(text);
	} catch {
		return undefined;
	}
}

function stringified(value: unknown): string {
	try {
		return JSON.stringify(value);
	} catch {
		return "{}";
	}
}

import { chmodSync, mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { connect as connectSocket, createServer, type Socket } from "node:net";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { StillpointError } from "../../contracts/errors.ts";
import type { AgentStatus, LocalNotificationName } from "../../contracts/local-calls.ts";
import {
	connectLocalChannel,
	type LocalCaller,
	type LocalHandlers,
	serveLocalChannel,
} from "../../platform/local-channel.ts";
import { maxWireMessageBytes } from "../../platform/local-wire.ts";
import { poll } from "../fixtures/poll.ts";

const status: AgentStatus = {
	schemaVersion: 1,
	version: "0",
	pid: 1,
	hostname: "h",
	startedAt: "2026-01-01T00:00:00.000Z",
	link: { enrolled: false, connected: false, unsentReports: 0 },
	extensions: [],
	frozen: [],
	lastJobs: [],
	protection: {
		state: "unprotected",
		why: [{ code: "no-good-job" }],
		wanted: { level: "file-system", maxAgeMs: null },
	},
};

let folder: string;
let socketPath: string;
let undo: AsyncDisposableStack;
let callers: LocalCaller[];

beforeEach(() => {
	folder = mkdtempSync("/dev/shm/stillpoint-test-channel-");
	chmodSync(folder, 0o700);
	socketPath = join(folder, "agent.sock");
	undo = new AsyncDisposableStack();
	undo.defer(() => rmSync(folder, { recursive: true, force: true }));
	callers = [];
});
afterEach(() => undo.disposeAsync());

function handlers(changes: Partial<LocalHandlers> = {}): LocalHandlers {
	const none = () => Promise.reject(new StillpointError("not-found", "not in this test"));
	return {
		"agent.status": (_params, caller) => {
			callers.push(caller);
			return Promise.resolve(status);
		},
		"agent.inventory": () => Promise.resolve({}),
		"job.order": none,
		"job.command": none,
		"job.report": none,
		"job.list": none,
		"link.reload": none,
		"extensions.list": none,
		"extensions.apply": none,
		"extension.attach": none,
		"extension.event": none,
		...changes,
	};
}

async function serve(changes: Partial<LocalHandlers> = {}, isFrozen = () => false, signal?: AbortSignal) {
	const stop = new AbortController();
	const server = await serveLocalChannel({
		socketPath,
		handlers: handlers(changes),
		isFrozen,
		signal: signal ?? stop.signal,
	});
	return undo.use(server);
}

async function client(onNotification?: (name: LocalNotificationName, params: unknown) => void, onClosed?: () => void) {
	return undo.use(
		await connectLocalChannel({
			socketPath,
			connectLimitMs: 2_000,
			...(onNotification ? { onNotification } : {}),
			...(onClosed ? { onClosed } : {}),
		}),
	);
}

async function rawSocket(): Promise<Socket> {
	const socket = connectSocket({ path: socketPath });
	undo.defer(() => void socket.destroy());
	socket.on("error", () => {});
	await new Promise<void>((resolve, reject) => {
		socket.once("connect", () => resolve());
		socket.once("error", reject);
	});
	return socket;
}

async function stillAnswers() {
	const one = await client();
	expect(await one.call("agent.status", {})).toEqual(status);
}

describe("hostile frames", () => {
	const frames: Record<string, string> = {
		"null (ends a server in profile fast)": "null\f",
		"no JSON": "hello\f",
		"an array": "[1,2]\f",
		"a number": "7\f",
		"an event that is not listed": '{"type":"shutdown","data":{}}\f',
		"a reserved event": '{"type":"error","data":{}}\f',
		"the name of an inherited property": '{"type":"__proto__","data":{}}\f',
		"a call without data": '{"type":"call"}\f',
		"a call whose data is null": '{"type":"call","data":null}\f',
		"a call with a wrong type of id":
			'{"type":"call","data":{"protocol":1,"id":"x","name":"agent.status","params":{},"limitMs":5}}\f',
		"a call with an unknown field":
			'{"type":"call","data":{"protocol":1,"id":1,"name":"agent.status","params":{},"limitMs":5,"x":1}}\f',
		"a call whose name has a length that can't be compared":
			'{"type":"call","data":{"protocol":1,"id":1,"name":{"length":{"toString":1}},"params":{},"limitMs":5}}\f',
		"a reply that nobody waits for": '{"type":"reply","data":{"id":1}}\f',
		"invalid UTF-8": "\ud800\f",
		"only delimiters": "\f\f\f\f",
		"deep nesting": `${"[".repeat(200_000)}\f`,
	};
	for (const [name, frame] of Object.entries(frames))
		test(`${name}: the server goes on`, async () => {
			await serve();
			const socket = await rawSocket();
			socket.write(frame);
			await delay(30);
			await stillAnswers();
		});

	test("a frame larger than the limit ends that connection only", async () => {
		await serve();
		const socket = await rawSocket();
		const closed = new Promise((resolve) => socket.once("close", resolve));
		socket.write("x".repeat(maxWireMessageBytes + 1));
		await closed;
		await stillAnswers();
	});

	test("a peer that sends byte by byte and leaves in the middle of a frame is forgotten", async () => {
		await serve();
		const socket = await rawSocket();
		for (const byte of '{"type":"ca') socket.write(byte);
		await delay(10);
		socket.destroy();
		await stillAnswers();
	});
});

describe("calls", () => {
	test("a result comes back checked, with defaults filled in", async () => {
		let seen: unknown;
		await serve({
			"job.list": (params) => {
				seen = params;
				return Promise.resolve({ jobs: [] });
			},
		});
		const one = await client();
		expect(await one.call("job.list", {})).toEqual({ jobs: [] });
		expect(seen).toEqual({ limit: 20 });
	});

	test("an unknown call, an unknown field and a wrong type are message-invalid with the field named", async () => {
		await serve();
		const one = await client();
		await expect(one.call("toString" as "agent.status", {})).rejects.toMatchObject({ code: "message-invalid" });
		await expect(one.call("agent.status", { x: 1 } as never)).rejects.toMatchObject({ code: "message-invalid" });
		await expect(one.call("job.list", { limit: "many" } as never)).rejects.toThrow(/limit/);
	});

	test("another protocol version is refused by name", async () => {
		await serve();
		const socket = await rawSocket();
		const answer = new Promise<string>((resolve) => socket.once("data", (data) => resolve(String(data))));
		socket.write('{"type":"call","data":{"protocol":99,"id":1,"name":"agent.status","params":{},"limitMs":500}}\f');
		expect(await answer).toContain("version-unsupported");
	});

	test("a handler that throws, throws no error, or answers what the contract does not allow is an error, not an end", async () => {
		await serve({
			"agent.status": () => {
				throw new TypeError("a bug");
			},
			"agent.inventory": () => Promise.reject("text"),
			"job.list": () => Promise.resolve({ jobs: 7 } as never),
		});
		const one = await client();
		await expect(one.call("agent.status", {})).rejects.toMatchObject({ code: "internal" });
		await expect(one.call("agent.inventory", {})).rejects.toMatchObject({ code: "internal" });
		await expect(one.call("job.list", {})).rejects.toMatchObject({ code: "internal" });
	});

	test("an answer that cannot be sent is an error of that call only", async () => {
		await serve({
			"agent.inventory": () => Promise.resolve({ big: "x".repeat(maxWireMessageBytes) }),
			"job.list": () => Promise.resolve({ jobs: [] }),
		});
		const one = await client();
		await expect(one.call("agent.inventory", {})).rejects.toMatchObject({ code: "message-too-large" });
		expect(await one.call("job.list", {})).toEqual({ jobs: [] });
	});

	test("a question that cannot be sent is message-too-large", async () => {
		await serve();
		const one = await client();
		const params = { command: { type: "cancel", jobId: "x".repeat(maxWireMessageBytes), code: "cancelled" } } as const;
		await expect(one.call("job.command", params)).rejects.toMatchObject({ code: "message-too-large" });
		expect(await one.call("agent.status", {})).toEqual(status);
	});

	test("a handler that hangs is answered at the caller's limit, others meanwhile", async () => {
		await serve({ "job.list": () => new Promise(() => {}) });
		const one = await client();
		const hanging = expect(one.call("job.list", {}, { limitMs: 200 })).rejects.toMatchObject({
			code: "deadline-passed",
		});
		expect(await one.call("agent.status", {})).toEqual(status);
		await hanging;
	});

	test("while frozen only what is answered from memory is answered", async () => {
		let frozen = true;
		await serve({}, () => frozen);
		const one = await client();
		await expect(one.call("agent.inventory", {})).rejects.toMatchObject({ code: "job-running" });
		expect(await one.call("agent.status", {})).toEqual(status);
		frozen = false;
		expect(await one.call("agent.inventory", {})).toEqual({});
	});
});

describe("connections", () => {
	test("notifications arrive in order, and the end of the connection is seen on both sides", async () => {
		const server = await serve();
		const seen: unknown[] = [];
		let closed = 0;
		const one = await client(
			(name, params) => seen.push([name, params]),
			() => closed++,
		);
		await one.call("agent.status", {});
		for (let index = 0; index < 100; index++) expect(callers[0]?.notify("job.event", index)).toBe(true);
		await one.call("agent.status", {});
		expect(seen).toEqual(Array.from({ length: 100 }, (_, index) => ["job.event", index]));
		const hanging = one.call("agent.status", {}).catch((error) => error);
		await server[Symbol.asyncDispose]();
		await hanging;
		await poll(() => closed).toBe(1);
		expect(one.closed.aborted).toBe(true);
		await expect(one.call("agent.status", {})).rejects.toMatchObject({ code: "agent-unreachable" });
		await poll(() => callers[0]?.closed.aborted).toBe(true);
		expect(callers[0]?.notify("job.event", 1)).toBe(false);
	});

	test("a listener that throws ends its own connection and nothing else", async () => {
		await serve();
		const one = await client(() => {
			throw new Error("a bug");
		});
		await one.call("agent.status", {});
		callers[0]?.notify("job.event", 1);
		await poll(() => one.closed.aborted).toBe(true);
		await stillAnswers();
	});

	test("a peer that never reads is cut off instead of filling memory", async () => {
		await serve();
		const socket = await rawSocket();
		socket.pause();
		socket.write('{"type":"call","data":{"protocol":1,"id":1,"name":"agent.status","params":{},"limitMs":500}}\f');
		await poll(() => callers.length).toBe(1);
		let sent = 0;
		while (callers[0]?.notify("job.event", "x".repeat(1_000_000)) && sent < 100) sent++;
		expect(sent).toBeLessThan(30);
		await stillAnswers();
	});

	test("nobody listens: agent-unreachable at once, for a missing folder too", async () => {
		await expect(client()).rejects.toMatchObject({ code: "agent-unreachable" });
		socketPath = join(folder, "missing", "agent.sock");
		await expect(client()).rejects.toMatchObject({ code: "agent-unreachable" });
	});

	test("a peer that accepts and never answers ends at the caller's limit", async () => {
		const silent = createServer(() => {});
		await new Promise<void>((resolve) => silent.listen(socketPath, resolve));
		undo.defer(() => void silent.close());
		const one = await client();
		await expect(one.call("agent.status", {}, { limitMs: 100 })).rejects.toMatchObject({ code: "deadline-passed" });
	});

	test("a peer that answers garbage ends the connection with agent-unreachable", async () => {
		const rude = createServer((socket) => socket.on("data", () => socket.write("null\f")));
		await new Promise<void>((resolve) => rude.listen(socketPath, resolve));
		undo.defer(() => void rude.close());
		const one = await client();
		await expect(one.call("agent.status", {})).rejects.toMatchObject({ code: "agent-unreachable" });
	});
});

describe("the socket", () => {
	test("a live server is not displaced", async () => {
		await serve();
		await expect(serve()).rejects.toMatchObject({ code: "already-running" });
		await stillAnswers();
	});

	test("a socket that a killed server left is replaced; folder 0700, socket 0600", async () => {
		const first = createServer();
		await new Promise<void>((resolve) => first.listen(socketPath, resolve));
		const stale = join(folder, "stale.sock");
		const { linkSync } = await import("node:fs");
		linkSync(socketPath, stale);
		await new Promise((resolve) => first.close(resolve));
		socketPath = stale;
		await serve();
		await stillAnswers();
		expect(statSync(folder).mode & 0o777).toBe(0o700);
		expect(statSync(stale).mode & 0o777).toBe(0o600);
	});

	test("a file that is no socket is left alone", async () => {
		writeFileSync(socketPath, "precious");
		await expect(serve()).rejects.toMatchObject({ code: "state-unusable" });
		expect(statSync(socketPath).size).toBe(8);
	});

	test("a path that is too long for a socket is refused by name", async () => {
		socketPath = join(folder, "x".repeat(100));
		await expect(serve()).rejects.toThrow(/107 bytes/);
		await expect(client()).rejects.toThrow(/107 bytes/);
	});

	test("a folder of another user is refused", async () => {
		const { chownSync } = await import("node:fs");
		if (process.getuid?.() !== 0) return;
		const other = join(folder, "other");
		mkdirSync(other, { mode: 0o700 });
		chownSync(other, 65534, 65534);
		socketPath = join(other, "agent.sock");
		await expect(serve()).rejects.toMatchObject({ code: "state-unusable" });
	});

	test("the signal ends the server and takes the socket away", async () => {
		const stop = new AbortController();
		await serve({}, () => false, stop.signal);
		stop.abort();
		await poll(() => statSync(socketPath, { throwIfNoEntry: false })).toBeUndefined();
		await expect(client()).rejects.toMatchObject({ code: "agent-unreachable" });
	});
});

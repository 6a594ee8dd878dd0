import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer, type RequestListener } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, describe, expect, test } from "vitest";
import { fetchLimited } from "../../extensions/vm-snapshot-linux/azure/fetch-limited.ts";
import { prepareRequest } from "../../extensions/vm-snapshot-linux/azure/prepared-request.ts";
import { openTaskStore, takeOverTasks } from "../../extensions/vm-snapshot-linux/azure/task-store.ts";
import { poll } from "../fixtures/poll.ts";

const secret = "sig=a-secret";
let undo = new AsyncDisposableStack();
afterEach(async () => {
	const done = undo;
	undo = new AsyncDisposableStack();
	await done.disposeAsync();
});

describe("a prepared request", () => {
	test("is sent on the connection that was made before, once", async () => {
		const { url, sockets, requests } = await serve((_request, response) =>
			response.writeHead(201, { "x-a": "b" }).end("yes"),
		);
		using prepared = undo.use(prepareRequest(url, { method: "PUT", headers: { a: "1" }, body: "é" }));
		await prepared.connect(5_000);
		await prepared.connect(5_000);
		expect([sockets.length, requests.length]).toEqual([1, 0]);
		expect(await prepared.send(5_000)).toMatchObject({ status: 201, body: "yes", headers: { "x-a": "b" } });
		expect([sockets.length, requests]).toEqual([1, [`PUT /a?${secret}`]]);
	});

	test("is not sent where the connection was lost, and connects again only when asked to", async () => {
		const { url, sockets } = await serve((_request, response) => response.end());
		using prepared = prepareRequest(url, { method: "PUT", headers: {} });
		await prepared.connect(5_000);
		await poll(() => sockets.length).toBe(1);
		sockets[0]?.destroy();
		await poll(() => lost(prepared)).toBe(true);
		expect(sockets).toHaveLength(1);
		await prepared.connect(5_000);
		expect(await prepared.send(5_000)).toMatchObject({ status: 200 });
	});

	test("ends at its limit, or with a connection or an answer that is cut, and tells nothing but the host", async () => {
		const cases: [RegExp, RequestListener][] = [
			[/no answer within 50 ms/, () => undefined],
			[/ECONNRESET/, (request) => request.socket.destroy()],
			[/too large/, (_request, response) => response.end(Buffer.alloc(2_000_000))],
		];
		for (const [why, listener] of cases) {
			const { url } = await serve(listener);
			using prepared = prepareRequest(url, { method: "PUT", headers: {} });
			await prepared.connect(5_000);
			const error = await prepared.send(why.source.includes("50") ? 50 : 5_000).catch((thrown: Error) => thrown);
			expect(error).toMatchObject({ code: "snapshot-failed", message: expect.stringMatching(why) });
			expect(JSON.stringify(error) + String(error)).not.toContain(secret);
		}
	});

	test("that can't connect says why, and not where to", async () => {
		using prepared = prepareRequest(new URL(`http://127.0.0.1:1/a?${secret}`), { method: "PUT", headers: {} });
		const error = await prepared.connect(5_000).catch((thrown: Error) => thrown);
		expect(error).toMatchObject({ code: "prepare-failed", message: "no connection to 127.0.0.1:1: ECONNREFUSED" });
	});
});

test("a request outside of the window reads no more than its limit, and tells nothing but the host", async () => {
	const { url } = await serve((_request, response) => response.end(Buffer.alloc(1_000_000)));
	const got = await fetchLimited(url, { method: "GET", limitMs: 5_000, maxBytes: 1_000 });
	expect(got.body).toHaveLength(1_000);
	// Not a port below 1024: `fetch` refuses some of those by itself.
	const nowhere = new URL(`http://127.0.0.1:29999/?${secret}`);
	const error = await fetchLimited(nowhere, { method: "GET", limitMs: 5_000, maxBytes: 1 }).catch(
		(thrown: Error) => thrown,
	);
	expect(error).toMatchObject({ code: "prepare-failed", message: "127.0.0.1:29999: ECONNREFUSED" });
	const silent = await serve(() => undefined);
	const late = fetchLimited(silent.url, { method: "GET", limitMs: 50, maxBytes: 1 });
	await expect(late).rejects.toMatchObject({ message: expect.stringContaining("no answer within 50 ms") });
});

test("an update takes over which tasks were run, once", async () => {
	const [old, now] = [await folder(), await folder()];
	expect(await takeOverTasks(old, now)).toBe(false);
	const task = {
		taskId: "t",
		jobId: "j",
		sequenceNumbers: [4],
		startTicks: "",
		acceptedAt: "",
		state: "ended",
	} as const;
	{
		await using store = await openTaskStore(old);
		store.tasks.push({ ...task, sequenceNumbers: [4] });
		await store.save();
	}
	expect(await takeOverTasks(old, now)).toBe(true);
	expect(await takeOverTasks(old, now)).toBe(false);
	await using store = await openTaskStore(now);
	expect(store.tasks).toEqual([task]);
});

function lost(prepared: { send(limitMs: number): Promise<unknown> }): boolean {
	try {
		void prepared.send(1).catch(() => undefined);
		return false;
	} catch {
		return true;
	}
}

async function serve(listener: RequestListener) {
	const sockets: Socket[] = [];
	const requests: string[] = [];
	const server = createServer((request, response) => {
		requests.push(`${request.method} ${request.url}`);
		listener(request, response);
	});
	server.on("connection", (socket) => sockets.push(socket));
	server.listen(0, "127.0.0.1");
	await once(server, "listening");
	undo.defer(async () => {
		server.closeAllConnections();
		server.close();
		await once(server, "close");
	});
	return { url: new URL(`http://127.0.0.1:${(server.address() as AddressInfo).port}/a?${secret}`), sockets, requests };
}

async function folder(): Promise<string> {
	const path = await mkdtemp(join(tmpdir(), "stillpoint-test-"));
	undo.defer(() => rm(path, { recursive: true }));
	return path;
}

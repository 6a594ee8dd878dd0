/**
 * Azure as a backup task sees it: a blob service over HTTPS whose `comp=snapshot` really copies the disk's image at that
 * instant, and the host's endpoint for snapshots by LUN. Loopback only.
 */
import { once } from "node:events";
import { mkdir, open, readFile } from "node:fs/promises";
import { createServer as createHttpServer, type IncomingMessage, type ServerResponse } from "node:http";
import { createServer as createHttpsServer } from "node:https";
import type { AddressInfo, Server } from "node:net";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { execa } from "execa";

/** What stands in every address: whoever finds it elsewhere has found a leak. */
export const sasSecret = "c2FzLXNlY3JldC1vZi10aGUtdGVzdA";
export const taskToken = "dG9rZW4tb2YtdGhlLXRlc3Q";

/** `take` copies. An answer is given instead of a copy. `hang` never answers, `drop` ends the connection. */
export type Behaviour =
	| "take"
	| "hang"
	| "drop"
	| { readonly status: number; readonly word?: string; readonly body?: string };

export type FakeBlob = {
	readonly name: string;
	readonly image: string;
	behaviour: Behaviour;
	/** Before the copy. */
	delayMs: number;
	/** Whether its SAS lets the snapshot be read; `hang`: no answer. */
	readable: boolean | "hang";
};
export type TakenSnapshot = {
	readonly blob: string;
	readonly time: string;
	readonly path: string;
	readonly headers: IncomingMessage["headers"];
};

export type FakeAzure = AsyncDisposable & {
	readonly caFile: string;
	/** `HOST:PORT` of the wire address. */
	readonly hostAddress: string;
	addBlob(name: string, image: string): FakeBlob;
	/** Secret. */
	uriOf(name: string): string;
	readonly snapshots: readonly TakenSnapshot[];
	/** Method and path with its query, of the blob service and of the host. */
	readonly requests: readonly string[];
	/** What was put to `/status`. */
	readonly uploads: string[];
	readonly host: {
		presnapshot: Behaviour;
		dosnapshot: Behaviour;
		responseTime: string | undefined;
		/** By LUN. */
		readonly blobs: Map<number, FakeBlob>;
		readonly bodies: Record<string, unknown>[];
	};
	/** Runs when a snapshot is asked for, before anything else. */
	onSnapshot: (() => Promise<void>) | undefined;
};

export async function startFakeAzure(folder: string): Promise<FakeAzure> {
	await mkdir(folder, { recursive: true });
	const [keyFile, caFile] = [join(folder, "key.pem"), join(folder, "ca.pem")];
	const names = "subjectAltName=DNS:localhost,IP:127.0.0.1";
	const request = [
		"req",
		"-x509",
		"-newkey",
		"rsa:2048",
		"-nodes",
		"-days",
		"2",
		"-subj",
		"/CN=fake",
		"-addext",
		names,
	];
	await execa("openssl", [...request, "-keyout", keyFile, "-out", caFile]);
	const blobs = new Map<string, FakeBlob>();
	const snapshots: TakenSnapshot[] = [];
	const requests: string[] = [];
	const uploads: string[] = [];
	let count = 0;

	async function copy(blob: FakeBlob, headers: IncomingMessage["headers"]): Promise<string> {
		await sleep(blob.delayMs);
		const time = `2026-01-01T00:00:00.${String(count++).padStart(7, "0")}Z`;
		const path = join(folder, `${blob.name}-${count}.img`);
		await execa("cp", ["--sparse=always", blob.image, path]);
		snapshots.push({ blob: blob.name, time, path, headers });
		return time;
	}

	async function serveBlob(request: IncomingMessage, response: ServerResponse): Promise<void> {
		const url = new URL(request.url ?? "", "https://localhost");
		requests.push(`${request.method} ${request.url}`);
		const body = await readBody(request);
		if (url.searchParams.get("sig") !== sasSecret) return answer(response, 403);
		if (url.pathname === "/status") {
			uploads.push(body);
			return answer(response, 201);
		}
		const blob = blobs.get(url.pathname.slice("/disks/".length));
		if (blob === undefined) return answer(response, 404);
		if (request.method === "GET") return await serveRange(blob, url, request, response);
		if (url.searchParams.get("comp") !== "snapshot") return answer(response, 400);
		await fake.onSnapshot?.();
		if (await misbehave(blob.behaviour, request, response)) return;
		answer(response, 201, { "x-ms-snapshot": await copy(blob, request.headers) });
	}

	async function serveRange(blob: FakeBlob, url: URL, request: IncomingMessage, response: ServerResponse) {
		const taken = snapshots.find(({ time }) => time === url.searchParams.get("snapshot"));
		const range = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? "");
		if (blob.readable === "hang") return;
		if (!blob.readable || taken?.blob !== blob.name || range === null) return answer(response, 403);
		await using file = await open(taken.path);
		const bytes = Buffer.alloc(Number(range[2]) - Number(range[1]) + 1);
		const { bytesRead } = await file.read(bytes, 0, bytes.length, Number(range[1]));
		answer(response, 206, {}, bytes.subarray(0, bytesRead));
	}

	async function serveHost(request: IncomingMessage, response: ServerResponse): Promise<void> {
		requests.push(`${request.method} ${request.url}`);
		const body = JSON.parse(await readBody(request)) as Record<string, unknown>;
		host.bodies.push(body);
		const isPre = request.url?.includes("/presnapshot?") === true;
		if (!isPre) await fake.onSnapshot?.();
		if (await misbehave(isPre ? host.presnapshot : host.dosnapshot, request, response)) return;
		const { responseTime } = host;
		if (isPre) return answer(response, 200, {}, JSON.stringify({ responseTime, result: "ok" }));
		const asked = (body["diskIds"] as number[]).map((lun) => host.blobs.get(lun));
		const snapshotInfo = await Promise.all(
			asked.map(async (blob) => {
				if (blob === undefined)
					return { isSuccessful: "false", snapshotUri: null, errorMessage: "no disk", statusCode: "404" };
				const time = await copy(blob, request.headers);
				const snapshotUri = `https://host/${blob.name}?snapshot=${time}&sig=${sasSecret}`;
				return { isSuccessful: "true", snapshotUri, errorMessage: null, statusCode: "200" };
			}),
		);
		answer(response, 200, {}, JSON.stringify({ responseTime, snapshotInfo }));
	}

	const tls = { key: await readFile(keyFile), cert: await readFile(caFile) };
	const blobServer = createHttpsServer(
		tls,
		(request, response) => void serveBlob(request, response).catch(() => response.destroy()),
	);
	const hostServer = createHttpServer(
		(request, response) => void serveHost(request, response).catch(() => response.destroy()),
	);
	const [blobPort, hostPort] = [await listen(blobServer), await listen(hostServer)];
	const host: FakeAzure["host"] = {
		presnapshot: "take",
		dosnapshot: "take",
		responseTime: new Date().toISOString(),
		blobs: new Map(),
		bodies: [],
	};
	const fake: FakeAzure = {
		caFile,
		hostAddress: `127.0.0.1:${hostPort}`,
		addBlob(name, image) {
			const blob: FakeBlob = { name, image, behaviour: "take", delayMs: 0, readable: true };
			blobs.set(name, blob);
			return blob;
		},
		uriOf: (name) => {
			const path = name === "status" ? "status" : `disks/${name}`;
			return `https://localhost:${blobPort}/${path}?sv=2024-01-01&sp=rw&sig=${sasSecret}`;
		},
		snapshots,
		requests,
		uploads,
		host,
		onSnapshot: undefined,
		async [Symbol.asyncDispose]() {
			for (const server of [blobServer, hostServer]) {
				server.closeAllConnections();
				server.close();
				await once(server, "close");
			}
		},
	};
	return fake;
}

/** Whether it answered, or never will. */
async function misbehave(behaviour: Behaviour, request: IncomingMessage, response: ServerResponse): Promise<boolean> {
	if (behaviour === "take") return false;
	if (behaviour === "drop") request.socket.destroy();
	else if (behaviour !== "hang") {
		answer(response, behaviour.status, behaviour.word ? { "x-ms-error-code": behaviour.word } : {}, behaviour.body);
	}
	return true;
}

function answer(
	response: ServerResponse,
	status: number,
	headers: Record<string, string> = {},
	body?: string | Buffer,
): void {
	response.writeHead(status, headers).end(body);
}

async function readBody(request: IncomingMessage): Promise<string> {
	const chunks: Buffer[] = [];
	for await (const chunk of request) chunks.push(chunk as Buffer);
	return Buffer.concat(chunks).toString("utf8");
}

async function listen(server: Server): Promise<number> {
	server.listen(0, "127.0.0.1");
	await once(server, "listening");
	return (server.address() as AddressInfo).port;
}

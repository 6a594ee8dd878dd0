import { connect, createServer, type Server, type Socket } from "node:net";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { makeHttpsTransport } from "../../agent/link/https-transport.ts";
import { openProxyTunnel } from "../../agent/link/proxy-tunnel.ts";
import { type FakeController, startFakeController } from "../fakes/fake-controller.ts";
import { makeAgentFolders, startAgent } from "../fixtures/agent-process.ts";
import { makeTestFolder } from "../fixtures/controller-run.ts";
import { enrolWith } from "../fixtures/link-bench.ts";
import { poll } from "../fixtures/poll.ts";
import { requireTools } from "../fixtures/required-tools.ts";

const missing = requireTools("root");
const secret = "s3cret";

/** One line of CONNECT and its headers in, then as the test says. */
type Proxy = { readonly port: number; readonly asked: string[]; close(): void };
async function startProxy(answer: (socket: Socket, target: string, head: string) => void): Promise<Proxy> {
	const asked: string[] = [];
	const open = new Set<Socket>();
	const server: Server = createServer((socket) => {
		open.add(socket);
		socket.on("error", () => {});
		socket.on("close", () => open.delete(socket));
		socket.once("data", (data) => {
			const head = String(data);
			asked.push(head);
			answer(socket, head.split(" ")[1] ?? "", head);
		});
	});
	await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
	const { port } = server.address() as { port: number };
	const close = () => {
		for (const socket of open) socket.destroy();
		server.close();
	};
	return { port, asked, close };
}

function forward(socket: Socket, target: string): void {
	const [host, port] = target.split(":");
	const up = connect(Number(port), host, () => {
		socket.write("HTTP/1.1 200 Connection established\r\n\r\n");
		socket.pipe(up).pipe(socket);
	});
	up.on("error", () => socket.destroy());
	socket.on("close", () => up.destroy());
}

describe
	.skipIf(missing)
	.concurrent(`an HTTP proxy on the way to the controller${missing ? `: ${missing}` : ""}`, () => {
		const stack = new AsyncDisposableStack();
		let controller: FakeController;
		beforeAll(async () => {
			const folder = stack.use(await makeTestFolder());
			controller = stack.use(await startFakeController(folder.path));
		});
		afterAll(() => stack.disposeAsync());

		async function proxyThat(answer: Parameters<typeof startProxy>[0]): Promise<Proxy> {
			const proxy = await startProxy(answer);
			stack.defer(() => proxy.close());
			return proxy;
		}
		const enrolThrough = (proxyUrl: string | undefined, stateDir: string, limitMs = 20_000) =>
			enrolWith(controller, stateDir, {
				transport: makeHttpsTransport(proxyUrl),
				signal: AbortSignal.timeout(limitMs),
			});

		test("enrolment and link go through it with its name and password, which no log and no status tells", async () => {
			using folders = makeAgentFolders();
			const expected = `Basic ${Buffer.from(`agent:${secret}`).toString("base64")}`;
			const proxy = await proxyThat((socket, target, head) => {
				if (head.includes(`proxy-authorization: ${expected}`)) forward(socket, target);
				else socket.end("HTTP/1.1 407 Proxy Authentication Required\r\n\r\n");
			});
			const proxyUrl = `http://agent:${secret}@127.0.0.1:${proxy.port}`;
			await enrolThrough(proxyUrl, folders.flags.stateDir);
			const before = proxy.asked.length;
			folders.writeConfig({ controller: { proxy: proxyUrl } });
			await using agent = await startAgent(folders);
			await poll(() => controller.messages.some(({ type }) => type === "hello")).toBe(true);
			expect(proxy.asked.length).toBeGreaterThan(before);
			await using channel = await agent.connect();
			await poll(async () => (await channel.call("agent.status", {})).link.connected).toBe(true);
			// Another password: 407, said as such.
			folders.writeConfig({ controller: { proxy: proxyUrl.replace(secret, "wrong-one") } });
			agent.child.kill("SIGTERM");
			await agent.exited;
			await using second = await startAgent(folders);
			await using other = await second.connect();
			await poll(async () => (await other.call("agent.status", {})).link.error?.code).toBe("proxy-failed");
			const told = folders.readLog() + JSON.stringify(await other.call("agent.status", {}));
			expect(told).toMatch(/another name and password \(407\)/);
			expect(told).not.toMatch(/s3cret|wrong-one/);
		});

		test("a percent sign in its password that begins no escape is sent as it is", async () => {
			const heads: string[] = [];
			const proxy = await proxyThat((socket, _target, head) => {
				heads.push(head);
				socket.end("HTTP/1.1 403 Forbidden\r\n\r\n");
			});
			const opened = openProxyTunnel(
				new URL(`http://me:100%zz@127.0.0.1:${proxy.port}`),
				"c:1",
				AbortSignal.timeout(5_000),
			);
			await expect(opened).rejects.toMatchObject({ code: "proxy-failed" });
			expect(heads.join()).toContain(`Basic ${Buffer.from("me:100%zz").toString("base64")}`);
		});

		test("one that refuses, closes, says garbage, floods or is not there is proxy-failed, and never a trust in it", async () => {
			using folders = makeAgentFolders();
			const bad: Record<string, Parameters<typeof startProxy>[0]> = {
				refuses: (socket) => socket.end("HTTP/1.1 403 Forbidden\r\n\r\n"),
				closes: (socket) => socket.destroy(),
				"says garbage": (socket) => socket.end("SSH-2.0-OpenSSH_9.2\r\n"),
				"floods headers": (socket) => {
					socket.write("HTTP/1.1 200 OK\r\n");
					const timer = setInterval(() => socket.write(`X: ${"x".repeat(60_000)}\r\n`), 1);
					socket.on("close", () => clearInterval(timer));
				},
			};
			for (const [what, answer] of Object.entries(bad)) {
				const { port } = await proxyThat(answer);
				await expect(enrolThrough(`http://127.0.0.1:${port}`, folders.flags.stateDir), what).rejects.toMatchObject({
					code: "proxy-failed",
				});
			}
			await expect(enrolThrough("http://127.0.0.1:1", folders.flags.stateDir)).rejects.toMatchObject({
				code: "proxy-failed",
			});
			// What answers CONNECT and then is itself the server does not become the controller.
			const impostor = await proxyThat((socket) => socket.write("HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 200 OK\r\n\r\n{}"));
			await expect(enrolThrough(`http://127.0.0.1:${impostor.port}`, folders.flags.stateDir)).rejects.toMatchObject({
				code: "controller-unreachable",
			});
			expect(controller.enrolments).toHaveLength(1);
		});

		test("one that hangs or drips ends at the caller's limit, or at its own", async () => {
			using folders = makeAgentFolders();
			const { port } = await proxyThat(() => {});
			const dripping = await proxyThat((socket) => {
				socket.write("HTTP/1.1 200 OK\r\n");
				const timer = setInterval(() => socket.write("X"), 200);
				socket.on("close", () => clearInterval(timer));
			});
			const begunMs = performance.now();
			await Promise.all([
				expect(enrolThrough(`http://127.0.0.1:${dripping.port}`, folders.flags.stateDir)).rejects.toMatchObject({
					code: "proxy-failed",
					message: expect.stringContaining("did not answer"),
				}),
				expect(enrolThrough(`http://127.0.0.1:${port}`, folders.flags.stateDir, 300)).rejects.toMatchObject({
					code: "proxy-failed",
				}),
				expect(enrolThrough(`http://127.0.0.1:${port}`, folders.flags.stateDir)).rejects.toMatchObject({
					code: "proxy-failed",
					message: expect.stringContaining("did not answer"),
				}),
			]);
			expect(performance.now() - begunMs).toBeLessThan(19_000);
		});
	});

/** Another way to the controller than HTTPS: enrolment, requests and the link over one stream socket, as a host's channel. */
import { randomUUID } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { createConnection, createServer, type Socket } from "node:net";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { enrol } from "../../agent/link/enrolment.ts";
import { findEnrolment, writeEnrolment } from "../../agent/link/enrolment-file.ts";
import { makeHttpsTransport } from "../../agent/link/https-transport.ts";
import type { ControllerTransport, LinkConnection } from "../../agent/link/link-transport.ts";
import { runAgent } from "../../agent/run-agent.ts";
import { asStillpointError, StillpointError } from "../../contracts/errors.ts";
import { confirmTicket, greetAgent } from "../../controller/agent-greeting.ts";
import { type AgentLinks, makeAgentLinks } from "../../controller/agent-links.ts";
import { type CertificateAuthority, openCertificateAuthority } from "../../controller/certificate-authority.ts";
import { type Enrolment, makeEnrolment } from "../../controller/enrolment.ts";
import type { LinkSocket } from "../../controller/link-socket.ts";
import { openSqliteStore } from "../../controller/sqlite-store.ts";
import type { Store } from "../../controller/store.ts";
import { makeTicketSeal } from "../../controller/ticket-seal.ts";
import { readMachineIdentity } from "../../platform/linux/machine-identity.ts";
import { type AgentFoldersFixture, makeAgentFolders } from "../fixtures/agent-process.ts";
import { makeOrder } from "../fixtures/job-client.ts";
import { poll } from "../fixtures/poll.ts";
import { requireTools } from "../fixtures/required-tools.ts";

const missing = requireTools("root");

/** Lines of JSON; the first one says what it is for. */
function readLines(socket: Socket, onLine: (line: string) => void): void {
	createInterface({ input: socket }).on("line", onLine);
	socket.on("error", () => {});
}
const say = (socket: Socket, value: unknown) => socket.write(`${JSON.stringify(value)}\n`);

/** The agent's side. */
function makeSocketTransport(path: string): ControllerTransport {
	async function ask(question: object): Promise<{ answer?: never; error?: { code: never; message: string } }> {
		const socket = createConnection(path);
		say(socket, question);
		return await new Promise((resolve) => readLines(socket, (line) => resolve(JSON.parse(line)))).then((value) => {
			socket.destroy();
			return value as never;
		});
	}
	return {
		findAuthority: async () => (await ask({ what: "authority" })).answer as never,
		async post({ url }, body) {
			const { answer, error } = await ask({ what: url.pathname, body });
			if (error !== undefined) throw new StillpointError(error.code, error.message);
			return answer;
		},
		async connect({ certificate }, signal): Promise<LinkConnection> {
			const socket = createConnection(path);
			const closed = new AbortController();
			const end = () => {
				socket.destroy();
				closed.abort(new StillpointError("controller-unreachable", "the channel ended"));
			};
			socket.on("close", end);
			socket.on("error", end);
			signal.addEventListener("abort", end, { once: true });
			say(socket, { what: "link", certificate });
			return {
				listen: (onText) => readLines(socket, onText),
				send(text) {
					socket.write(`${text}\n`);
					return !closed.signal.aborted;
				},
				get waitingBytes() {
					return socket.writableLength;
				},
				close: end,
				closed: closed.signal,
			};
		},
	};
}

/** The controller's side of one link. Who is there was told by the host. */
function asLinkSocket(socket: Socket): LinkSocket & { take(line: string): void } {
	const early: string[] = [];
	let frame = (text: string): void => void early.push(text);
	return {
		get isOpen() {
			return !socket.destroyed;
		},
		get bytesRead() {
			return socket.bytesRead;
		},
		get waitingBytes() {
			return socket.writableLength;
		},
		send: (text) => void socket.write(`${text}\n`),
		ping: () => {},
		close: () => void socket.end(),
		terminate: () => void socket.destroy(),
		pause: () => void socket.pause(),
		resume: () => void socket.resume(),
		take: (line) => frame(line),
		listen(on) {
			frame = on.frame;
			for (const line of early.splice(0)) frame(line);
			const timer = setInterval(on.alive, 500);
			socket.on("close", () => {
				clearInterval(timer);
				on.closed();
			});
		},
	};
}

describe.skipIf(missing)(`a transport that is no network${missing ? `: ${missing}` : ""}`, () => {
	let stack: AsyncDisposableStack;
	let folders: AgentFoldersFixture;
	let parts: { authority: CertificateAuthority; store: Store; enrolment: Enrolment; links: AgentLinks };
	let path: string;
	const reports: string[] = [];
	const log = { debug() {}, info() {}, warn() {}, error() {} };

	beforeEach(async () => {
		stack = new AsyncDisposableStack();
		folders = stack.use(makeAgentFolders());
		const root = mkdtempSync("/dev/shm/stillpoint-test-channel-");
		stack.defer(() => rmSync(root, { recursive: true, force: true }));
		path = join(root, "channel.sock");
		const authority = await openCertificateAuthority(join(root, "ca"));
		const store = stack.use(openSqliteStore(join(root, "controller.sqlite")));
		const seal = makeTicketSeal(authority.deriveSecret("test"));
		const links = makeAgentLinks({
			log,
			greet: (agentId, hello) => greetAgent({ store, seal, log, onPutBack: async () => {} }, agentId, hello),
			onTicketKept: (agentId, ticket) => confirmTicket({ store, seal }, agentId, ticket),
			renew: (agentId, csr) => authority.issueAgent(agentId, csr),
			onSeen: (agentId) => store.setSeen(agentId, new Date().toISOString()),
			onUnreadableReport: async () => {},
			onPresence: () => {},
			async onReport(agentId, sequence, report) {
				if (await store.addReport(agentId, sequence, report)) reports.push(report.jobId);
				return report;
			},
		});
		parts = { authority, store, links, enrolment: makeEnrolment(store, authority) };
		await serve();
	});
	afterEach(() => stack.disposeAsync());

	async function serve(): Promise<void> {
		const open = new Set<Socket>();
		const server = createServer((socket) => {
			open.add(socket);
			let link: ReturnType<typeof asLinkSocket> | undefined;
			readLines(socket, (line) => {
				if (link !== undefined) return link.take(line);
				const { what, body } = JSON.parse(line) as { what: string; body: unknown };
				if (what === "link") {
					link = asLinkSocket(socket);
					void parts.store.listAgents().then(([agent]) => link && parts.links.accept(link, agent?.agentId ?? "nobody"));
				} else
					answer(what, body).then(
						(value) => say(socket, { answer: value }),
						(error) => say(socket, { error: asStillpointError(error).toJSON() }),
					);
			});
		});
		await new Promise<void>((resolve) => server.listen(path, resolve));
		stack.defer(async () => {
			for (const socket of open) socket.destroy();
			await new Promise((resolve) => server.close(resolve));
		});
	}
	async function answer(what: string, body: unknown): Promise<unknown> {
		if (what === "authority") return parts.authority.certificate;
		if (what === "/v1/enrol") return await parts.enrolment.enrol(body);
		return await parts.enrolment.requestEnrolment(body, "host channel");
	}
	async function runHere(): Promise<AsyncDisposable> {
		const stopping = new AbortController();
		const ready = Promise.withResolvers<void>();
		const run = runAgent({
			flags: folders.flags,
			environment: {},
			stopping: stopping.signal,
			onReady: ready.resolve,
			transport: makeSocketTransport(path),
		});
		run.catch(ready.reject);
		await ready.promise;
		return {
			async [Symbol.asyncDispose]() {
				stopping.abort();
				await run;
			},
		};
	}
	async function enrolHere(transport: ControllerTransport) {
		return await enrol({
			controllerUrl: "https://host.channel",
			token: (await parts.enrolment.makeToken(60_000)).token,
			stateDir: folders.flags.stateDir,
			machine: await readMachineIdentity(),
			transport,
			signal: AbortSignal.timeout(5_000),
		});
	}

	test("enrols, links, runs a job and delivers its report; and a copy asks over it to be enrolled", async () => {
		// Control: nothing listens at that address on a network.
		await expect(enrolHere(makeHttpsTransport(undefined))).rejects.toMatchObject({ code: "controller-unreachable" });
		const { agentId } = await enrolHere(makeSocketTransport(path));
		{
			await using _agent = await runHere();
			await poll(() => parts.links.isConnected(agentId)).toBe(true);
			const jobId = `good.${randomUUID()}`;
			using channel = parts.links.openChannel(agentId, jobId);
			const signal = AbortSignal.timeout(15_000);
			channel.send({ type: "order", order: makeOrder(jobId) as never });
			await channel.next(["prepared"], signal);
			channel.send({ type: "freeze", jobId });
			await channel.next(["frozen"], signal);
			channel.send({ type: "done", jobId, disks: [{ name: "vda", ok: true }] });
			await poll(() => reports).toEqual([jobId]);
		}
		const enrolment = findEnrolment(folders.flags.stateDir);
		if (enrolment === undefined) throw new Error("not enrolled");
		await writeEnrolment(folders.flags.stateDir, { ...enrolment, machine: { machineId: "0".repeat(32) } });
		await using _copy = await runHere();
		await poll(() => parts.store.listEnrolmentRequests()).toMatchObject([
			{ formerAgentId: agentId, address: "host channel" },
		]);
		expect(parts.links.isConnected(agentId)).toBe(false);
	});
});

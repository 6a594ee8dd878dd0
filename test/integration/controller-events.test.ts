import { once } from "node:events";
import { createServer, get, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { ControllerEvent } from "../../contracts/controller-api.ts";
import { connectController } from "../../controller/client.ts";
import type { StreamOptions } from "../../controller/event-stream.ts";
import { makeEventStreams, streamLimits } from "../../controller/event-streams.ts";
import { makeControllerEvents } from "../../controller/events.ts";
import type { FakeAgent } from "../fakes/fake-agent.ts";
import { fakeMachine } from "../fakes/fake-enrolment.ts";
import { addCredential, ask } from "../fixtures/api-caller.ts";
import {
	addFakeAgent,
	type ControllerRun,
	makeImage,
	makeTestFolder,
	startController,
} from "../fixtures/controller-run.ts";
import { readEvents } from "../fixtures/event-reader.ts";
import { poll } from "../fixtures/poll.ts";

let folder: Awaited<ReturnType<typeof makeTestFolder>>;
let controller: ControllerRun;
let agent: FakeAgent;
let image: string;
const streams = { heartbeatMs: 200, perCredential: 4, inAll: 6, eventsKept: 40 };

beforeAll(async () => {
	folder = await makeTestFolder();
	image = await makeImage(join(folder.path, "a.img"), 1024 * 1024, [{ offset: 0, length: 4096 }]);
	controller = await startController(join(folder.path, "state"), { streams, limits: { lateReportMs: 1_000 } });
	agent = await addFakeAgent(controller, { vda: image }, { worth: "application" });
});
afterAll(async () => {
	await agent[Symbol.asyncDispose]();
	await controller[Symbol.asyncDispose]();
	await folder[Symbol.asyncDispose]();
});
const order = async () => (await controller.client.orderSnapshot(agent.agentId, {})).jobId;
const statesOf = (events: readonly ControllerEvent[]) =>
	events.flatMap((event) =>
		event.type === "job" ? [event.job.state] : event.type === "state" ? event.jobs.map(({ state }) => state) : [],
	);

describe("the stream of one job", () => {
	test("tells every state up to the end, then ends; who comes back is told nothing more", async () => {
		const jobId = await order();
		using reader = await readEvents(controller, `/v1/jobs/${jobId}/events`);
		await reader.closed();
		expect(reader.events[0]?.type).toBe("state");
		expect(reader.events.at(-1)?.type).toBe("end");
		const last = reader.events.at(-2);
		expect(last).toMatchObject({ type: "job", job: { jobId, state: "done", level: "application" } });
		expect(last?.type === "job" && last.job.orderToFrozenMs).toBeGreaterThan(0);
		expect(last?.type === "job" && last.job.endedAt).toBeDefined();
		expect(statesOf(reader.events)).toEqual(expect.arrayContaining(["freezing", "taking", "thawing", "done"]));
		expect((await readEvents(controller, `/v1/jobs/${jobId}/events`, { lastEventId: reader.ids.at(-1) })).status).toBe(
			204,
		);
		using late = await readEvents(controller, `/v1/jobs/${jobId}/events`);
		await late.closed();
		expect(late.events.map(({ type }) => type)).toEqual(["state", "end"]);
	});

	test("tells of a failure with its code, and nothing of other jobs", async () => {
		await using silent = await addFakeAgent(controller, { vda: image }, { silentOn: ["prepared"] });
		const { jobId } = await controller.client.orderSnapshot(silent.agentId, {});
		using reader = await readEvents(controller, `/v1/jobs/${jobId}/events`);
		await controller.client.followJob(await order());
		await controller.client.cancelJob(jobId);
		await reader.closed();
		const jobs = reader.events.flatMap((event) => (event.type === "job" ? [event.job] : []));
		expect(jobs.at(-1)).toMatchObject({ state: "failed", error: { code: "cancelled" } });
		expect(new Set(jobs.map((job) => job.jobId))).toEqual(new Set([jobId]));
		expect((await ask(controller, "GET", "/v1/jobs/none/events")).code).toBe("job-unknown");
	});

	test("who comes back in the middle misses nothing and hears nothing twice", async () => {
		const jobId = await order();
		using whole = await readEvents(controller, `/v1/jobs/${jobId}/events`);
		await whole.closed();
		const at = whole.ids.findIndex((_, index) => whole.events[index]?.type === "job") + 1;
		using resumed = await readEvents(controller, `/v1/jobs/${jobId}/events`, { lastEventId: whole.ids[at] });
		await resumed.closed();
		expect(resumed.events).toEqual(whole.events.slice(at + 1));
		expect(resumed.events.length).toBeGreaterThan(1);
	});
});

describe("the stream of everything", () => {
	test("tells of agents that come and go, jobs and requests to be enrolled", async () => {
		using reader = await readEvents(controller, "/v1/events");
		await reader.until((event) => event.type === "state" && event.agents.includes(agent.agentId));
		await using other = await addFakeAgent(controller, {});
		const { agentId } = other;
		await reader.until((event) => event.type === "agent" && event.agentId === agentId && event.connected);
		await other.disconnect();
		await reader.until((event) => event.type === "agent" && event.agentId === agentId && !event.connected);
		const body = { machine: fakeMachine, reason: "this is a copy" };
		await ask(controller, "POST", "/v1/enrolment-requests", { as: {}, body });
		await reader.until((event) => event.type === "enrolment-request" && event.request.reason === body.reason);
		const jobId = await order();
		await reader.until((event) => event.type === "job" && event.job.jobId === jobId && event.job.endedAt !== undefined);
		await poll(() => reader.comments).toBeGreaterThan(1);
	});

	test("too old an id, one of another life, and none at all: reset or not, then how it stands", async () => {
		using first = await readEvents(controller, "/v1/events");
		await first.until(({ type }) => type === "state");
		for (let count = 0; count < streams.eventsKept; count += 8) await controller.client.followJob(await order());
		const typesOf = async (lastEventId: string) => {
			using reader = await readEvents(controller, "/v1/events", { lastEventId });
			await reader.until(({ type }) => type === "state");
			return reader.events.slice(0, 2).map(({ type }) => type);
		};
		expect(await typesOf(first.ids[0] as string)).toEqual(["reset", "state"]);
		expect(await typesOf("00000000-5")).toEqual(["reset", "state"]);
		expect(await typesOf("x".repeat(5_000))).toEqual(["reset", "state"]);
		expect(await typesOf("")).toEqual(["reset", "state"]);
	});

	test("is limited for each credential and in all, and who goes makes room", async () => {
		const [vera, olga] = [
			await addCredential(controller, "vera", "viewer"),
			await addCredential(controller, "olga", "viewer"),
		];
		const open = (as: typeof vera) => readEvents(controller, "/v1/events", { as });
		const readers = await Promise.all([open(vera), open(vera), open(vera), open(vera)]);
		const fifth = await ask(controller, "GET", "/v1/events", { as: vera });
		expect([fifth.status, fifth.code]).toEqual([429, "rate-limited"]);
		expect(Number(fifth.headers["retry-after"])).toBeGreaterThan(0);
		readers.push(await open(olga), await open(olga));
		expect((await ask(controller, "GET", "/v1/events", { as: olga })).code).toBe("rate-limited");
		for (const reader of readers) reader[Symbol.dispose]();
		await poll(async () => (await ask(controller, "GET", "/v1/events", { as: vera })).status).toBe(200);
	});

	test("ends at once when its credential is revoked or expires", async () => {
		const revoked = await addCredential(controller, "rita", "viewer");
		const expiring = await addCredential(controller, "ella", "viewer", 2_500);
		using one = await readEvents(controller, "/v1/events", { as: revoked });
		using two = await readEvents(controller, "/v1/events", { as: expiring });
		using stays = await readEvents(controller, "/v1/events");
		await one.until(({ type }) => type === "state");
		expect([one.isClosed, two.isClosed]).toEqual([false, false]);
		await controller.client.revokeCredential("rita");
		await one.closed();
		await two.closed();
		expect(stays.isClosed).toBe(false);
		expect((await ask(controller, "GET", "/v1/events", { as: revoked })).code).toBe("certificate-revoked");
	});

	test("ends when the controller stops, after it has told of the jobs that this ended", async () => {
		const second = await startController(join(folder.path, "second"), { limits: { stoppingMs: 500 } });
		await using silent = await addFakeAgent(second, { vda: image }, { silentOn: ["prepared"] });
		using reader = await readEvents(second, "/v1/events");
		const { jobId } = await second.client.orderSnapshot(silent.agentId, {});
		await reader.until((event) => event.type === "job" && event.job.jobId === jobId);
		using follower = connectController(second.access);
		const heard: ControllerEvent[] = [];
		const following = (async () => {
			for await (const event of follower.followEvents()) heard.push(event);
		})();
		await poll(() => heard.length).toBeGreaterThan(0);
		await second.stop();
		await reader.closed();
		await following;
		for (const events of [reader.events, heard]) {
			expect(events.at(-1)).toEqual({ type: "end" });
			expect(statesOf(events)).toContain("failed");
		}
	});
});

describe("a client", () => {
	test("follows a job to its end with every change, and says when the controller refuses it", async () => {
		const states: string[] = [];
		const job = await controller.client.followJob(await order(), { onChange: ({ state }) => states.push(state) });
		expect(job).toMatchObject({ state: "done", report: { achieved: "application" } });
		expect(states).toEqual([...new Set(states)]);
		expect(states.at(-1)).toBe("done");
		await expect(controller.client.followJob("none")).rejects.toMatchObject({ code: "job-unknown" });
	});

	test("ends its following when it is told to", async () => {
		const stop = new AbortController();
		const following = (async () => {
			for await (const _ of controller.client.followEvents(stop.signal)) stop.abort(new Error("enough"));
		})();
		await expect(following).rejects.toThrow("enough");
	});
});

describe("a reader that is slow or gone", () => {
	test("that went before its stream began leaves nothing behind, and one whose credential ended then is refused", async () => {
		const quiet = () => {};
		const hub = makeEventStreams(makeControllerEvents(), streamLimits, {
			debug: quiet,
			info: quiet,
			warn: quiet,
			error: quiet,
		});
		const ready = Promise.withResolvers<void>();
		const answers: Promise<void>[] = [];
		const server = createServer((_, response) => {
			const options: StreamOptions = {
				response,
				credential: "x",
				credentialExpiresAtMs: Date.now() + 60_000,
				lastEventId: undefined,
				isWanted: () => true,
				isLast: () => false,
				readState: () => ready.promise.then(() => ({ type: "state", jobs: [], agents: [] })),
				isOver: () => false,
			};
			answers.push(hub.open(options));
			answers.at(-1)?.catch(() => response.writeHead(403).end());
		});
		server.listen(0, "127.0.0.1");
		await once(server, "listening");
		const { port } = server.address() as AddressInfo;
		const gone = get({ port, agent: false }).on("error", quiet);
		await poll(() => hub.count).toBe(1);
		gone.destroy();
		await poll(() => hub.count).toBe(0);
		const revoked = get({ port, agent: false }).on("error", quiet);
		await poll(() => hub.count).toBe(1);
		hub.cut("x");
		ready.resolve();
		const [incoming] = (await once(revoked, "response")) as [IncomingMessage];
		expect(incoming.statusCode).toBe(403);
		await expect(answers[1]).rejects.toMatchObject({ code: "certificate-revoked" });
		expect(hub.count).toBe(0);
		await hub[Symbol.asyncDispose]();
		server.close();
	});

	test("is cut off; meanwhile no more than its connection takes is kept for it, and others hear everything", async () => {
		const events = makeControllerEvents(200);
		const quiet = () => {};
		const log = { debug: quiet, info: quiet, warn: quiet, error: quiet };
		await using hub = makeEventStreams(events, { ...streamLimits, heartbeatMs: 100 }, log);
		const responses: ServerResponse[] = [];
		const options = (response: ServerResponse): StreamOptions => ({
			response,
			credential: "x",
			credentialExpiresAtMs: Date.now() + 60_000,
			lastEventId: undefined,
			isWanted: () => true,
			isLast: () => false,
			readState: async () => ({ type: "state", jobs: [], agents: [] }),
			isOver: () => false,
		});
		const server = createServer((_, response) => {
			responses.push(response);
			void hub.open(options(response));
		});
		server.listen(0, "127.0.0.1");
		await once(server, "listening");
		const connectTo = async (): Promise<IncomingMessage> => {
			const outgoing = get({ port: (server.address() as AddressInfo).port, agent: false });
			outgoing.on("error", quiet);
			const [incoming] = (await once(outgoing, "response")) as [IncomingMessage];
			incoming.on("error", quiet);
			return incoming;
		};
		const slow = await connectTo();
		slow.pause();
		const quick = await connectTo();
		const heard = { bytes: 0 };
		quick.on("data", (chunk: Buffer) => {
			heard.bytes += chunk.length;
		});
		await poll(() => hub.count).toBe(2);
		const agentId = "a".repeat(100_000);
		let most = 0;
		const total = 300;
		for (let count = 1; count <= total; count += 1) {
			events.publish({ type: "agent", agentId: `${count}-${agentId}`, connected: true });
			while (heard.bytes < count * agentId.length) await new Promise((resolve) => setImmediate(resolve));
			most = Math.max(most, responses[0]?.writableLength ?? 0);
		}
		await poll(() => hub.count).toBe(1);
		expect(responses[0]?.destroyed).toBe(true);
		expect(most).toBeGreaterThan(0);
		expect(most).toBeLessThan(1_000_000);
		expect(responses[1]?.destroyed).toBe(false);
		await hub[Symbol.asyncDispose]();
		await poll(() => hub.count).toBe(0);
		server.close();
	});
});

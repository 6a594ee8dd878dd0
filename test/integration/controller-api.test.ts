import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { FakeAgent } from "../fakes/fake-agent.ts";
import { exchange } from "../fakes/fake-enrolment.ts";
import { addFakeAgent, type ControllerRun, makeTestFolder, startController } from "../fixtures/controller-run.ts";

let folder: Awaited<ReturnType<typeof makeTestFolder>>;
let controller: ControllerRun;
let agent: FakeAgent;

beforeAll(async () => {
	folder = await makeTestFolder();
	controller = await startController(join(folder.path, "state"));
	agent = await addFakeAgent(controller, {});
});
afterAll(async () => {
	await agent[Symbol.asyncDispose]();
	await controller[Symbol.asyncDispose]();
	await folder[Symbol.asyncDispose]();
});

type Refusal = { code: string; message: string; remedy: string; retryable: boolean; details?: { field?: string } };

async function ask(method: string, path: string, body?: string | Buffer) {
	const { ca, cert, key } = controller.access;
	const options = { ca, cert, key, method, ...(body === undefined ? {} : { body }) };
	const { status, text } = await exchange(`${controller.info.url}${path}`, options);
	return { status, answer: JSON.parse(text) as { error: Refusal } & Record<string, unknown> };
}
const snapshotsPath = () => `/v1/agents/${agent.agentId}/snapshots`;
const disksPath = () => `/v1/agents/${agent.agentId}/disks`;

describe("bad input gets a code, a sentence and the field", () => {
	test.each([
		["not JSON", "{"],
		["not UTF-8", Buffer.from([0x22, 0xff, 0x22])],
		["cut short", '{"validMs": 10'],
	])("%s", async (_, body) => {
		const { status, answer } = await ask("POST", "/v1/tokens", body);
		expect([status, answer.error.code]).toEqual([400, "message-invalid"]);
		expect(answer.error.remedy.length).toBeGreaterThan(10);
		expect(answer.error.retryable).toBe(false);
	});

	test.each([
		["POST", "/v1/tokens", { validMs: "long" }, "message-invalid", "validMs"],
		["POST", "/v1/tokens", { validMs: 1 }, "message-invalid", "validMs"],
		["POST", "/v1/tokens", { valid: 5000 }, "message-invalid", "valid"],
		["POST", "/v1/enrol", { token: 5 }, "message-invalid", "token"],
		["PUT", "disks", { disks: [{ name: "vda", image: "relative" }] }, "order-invalid", "disks.0.image"],
		["PUT", "disks", { disks: [{ name: "vda", image: "/x", mode: 1 }] }, "order-invalid", "disks.0.mode"],
		["PUT", "disks", [], "order-invalid", "(whole)"],
		["POST", "snapshots", { level: "best" }, "order-invalid", "level"],
		["POST", "snapshots", { level: "none" }, "order-invalid", "level"],
		["POST", "snapshots", { jobId: "../x" }, "order-invalid", "jobId"],
		["POST", "snapshots", { holdLimitMs: 1 }, "order-invalid", "holdLimitMs"],
		["POST", "snapshots", { holdLimit: 1000 }, "order-invalid", "holdLimit"],
		["POST", "snapshots", null, "order-invalid", "(whole)"],
	] as const)("%s %s %j", async (method, where, body, code, field) => {
		const path = where === "disks" ? disksPath() : where === "snapshots" ? snapshotsPath() : where;
		const { status, answer } = await ask(method, path, JSON.stringify(body));
		expect([status, answer.error.code, answer.error.details?.field]).toEqual([400, code, field]);
		if (field !== "(whole)") expect(answer.error.message).toContain(field);
	});

	test("an accepted level above the wanted one is refused, once a disk is mapped", async () => {
		await controller.client.mapDisks(agent.agentId, [{ name: "vda", image: "/nowhere" }]);
		const body = JSON.stringify({ level: "file-system", acceptLevel: "application" });
		const { answer } = await ask("POST", snapshotsPath(), body);
		expect([answer.error.code, answer.error.details?.field]).toEqual(["order-invalid", "acceptLevel"]);
		await controller.client.mapDisks(agent.agentId, []);
	});

	test("a body above the limit is refused before it is read to its end", async () => {
		const { status, answer } = await ask("POST", "/v1/tokens", Buffer.alloc(3 * 1024 * 1024, 0x20));
		expect([status, answer.error.code]).toEqual([413, "message-too-large"]);
	});

	test.each([
		["GET", "/"],
		["GET", "/v1/nothing"],
		["GET", "/v1/agents/a%2Fb"],
		["GET", "/v1/agents/nobody"],
		["PUT", "/v1/agents/nobody/disks"],
		["POST", "/v1/agents/nobody/snapshots"],
		["GET", "/v1/recovery-points/rp-x"],
		["GET", "/v1/recovery-points/..%2F..%2Fca"],
		["POST", "/v1/recovery-points/rp-x/verify"],
		["GET", "/v1/recovery-points/rp-x/verification"],
	])("%s %s does not exist", async (method, path) => {
		const body = method === "PUT" ? '{"disks":[]}' : method === "POST" ? "{}" : undefined;
		const { status, answer } = await ask(method, path, body);
		expect([status, answer.error.code]).toEqual([404, "not-found"]);
	});

	test("an unknown job is job-unknown; a wait above the limit and an unknown query word are refused", async () => {
		expect((await ask("GET", "/v1/jobs/none")).answer.error.code).toBe("job-unknown");
		expect((await ask("POST", "/v1/jobs/none/cancel")).answer.error.code).toBe("job-unknown");
		expect((await ask("GET", "/v1/jobs/none?waitMs=99999999")).answer.error.details?.field).toBe("waitMs");
		expect((await ask("GET", "/v1/jobs/none?wait=1")).answer.error.details?.field).toBe("wait");
	});
});

describe("what an operator sees", () => {
	test("agents with their machine, disks and whether they are connected", async () => {
		const disks = [{ name: "vda", image: "/images/a.raw" }];
		expect(await controller.client.mapDisks(agent.agentId, disks)).toMatchObject({ connected: true, disks });
		const [listed] = await controller.client.listAgents();
		expect(listed).toMatchObject({ agentId: agent.agentId, machine: { hostname: "fake" }, disks });
		expect(listed?.lastSeenAt).toBeDefined();
		await controller.client.mapDisks(agent.agentId, []);
	});

	test("status and inventory are asked of the agent; one that is away is agent-offline", async () => {
		expect(await controller.client.readAgentInventory(agent.agentId)).toEqual({ method: "inventory" });
		await agent.disconnect();
		await expect(controller.client.readAgentInventory(agent.agentId)).rejects.toMatchObject({ code: "agent-offline" });
		await expect(controller.client.orderSnapshot(agent.agentId, {})).rejects.toMatchObject({ code: "disk-not-mapped" });
		await controller.client.mapDisks(agent.agentId, [{ name: "vda", image: "/images/a.raw" }]);
		await expect(controller.client.orderSnapshot(agent.agentId, {})).rejects.toMatchObject({ code: "agent-offline" });
		expect(await controller.client.listJobs()).toEqual([]);
		await agent.connect();
	});

	test("a controller that is not there is controller-unreachable", async () => {
		const { connectController } = await import("../../controller/client.ts");
		using client = connectController({ ...controller.access, url: "https://127.0.0.1:1" });
		await expect(client.listAgents()).rejects.toMatchObject({ code: "controller-unreachable" });
	});
});

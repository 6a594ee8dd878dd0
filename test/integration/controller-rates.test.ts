import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { makeRateLimits, networkOf, requestRates } from "../../controller/rate-limits.ts";
import { enrolFakeAgent } from "../fakes/fake-enrolment.ts";
import { addCredential, ask, type Identity } from "../fixtures/api-caller.ts";
import {
	addFakeAgent,
	type ControllerRun,
	makeImage,
	makeTestFolder,
	startController,
} from "../fixtures/controller-run.ts";

let folder: Awaited<ReturnType<typeof makeTestFolder>>;
let controller: ControllerRun;
const who: Record<string, Identity> = {};
const rates = {
	requests: { points: 60, perS: 60 },
	changes: { points: 20, perS: 60 },
	unknownCallers: { points: 30, perS: 60 },
	links: { points: 5, perS: 60 },
};

beforeAll(async () => {
	folder = await makeTestFolder();
	controller = await startController(join(folder.path, "state"), { rates });
	for (const name of ["flo", "olga", "vic"]) who[name] = await addCredential(controller, name, "operator");
});
afterAll(async () => {
	await controller[Symbol.asyncDispose]();
	await folder[Symbol.asyncDispose]();
});

describe("too many requests", () => {
	test("a flood of one caller is refused with a time to wait, and the orders of another go through meanwhile", async () => {
		const image = await makeImage(join(folder.path, "a.img"), 1024 * 1024, [{ offset: 0, length: 4096 }]);
		await using agent = await addFakeAgent(controller, { vda: image });
		const flood = Promise.all(
			Array.from({ length: 150 }, () => ask(controller, "GET", "/v1/agents", { as: who["flo"] as Identity })),
		);
		const path = `/v1/agents/${agent.agentId}/snapshots`;
		const order = await ask(controller, "POST", path, { as: who["olga"] as Identity, body: { level: "file-system" } });
		expect(order.status).toBe(202);
		const answers = await flood;
		const refused = answers.filter(({ status }) => status === 429);
		expect(refused).toHaveLength(150 - rates.requests.points);
		const [first] = refused;
		expect(first?.code).toBe("rate-limited");
		expect(first?.body.error).toMatchObject({ retryable: true, details: { limit: 60, perS: 60 } });
		expect(Number(first?.headers["retry-after"])).toBeGreaterThan(0);
		expect(Number(first?.headers["retry-after"])).toBeLessThanOrEqual(60);
		expect(await controller.client.followJob(order.body.jobId)).toMatchObject({ state: "done" });
	});

	test("what changes something has a limit of its own, is told of in the audit log once, and reading goes on", async () => {
		const as = who["vic"] as Identity;
		const answers = await Promise.all(
			Array.from({ length: 30 }, () => ask(controller, "POST", "/v1/jobs/none/cancel", { as, body: {} })),
		);
		expect(answers.filter(({ code }) => code === "rate-limited")).toHaveLength(10);
		expect((await ask(controller, "GET", "/v1/jobs", { as })).status).toBe(200);
		const entries = await controller.client.listAudit({ actor: "vic", outcome: "rate-limited" });
		expect(entries.entries).toHaveLength(1);
	});

	test("who shows no good certificate shares the counter of the address, and nobody else is hurt", async () => {
		const { token } = await controller.client.createToken();
		const answers = await Promise.all(
			Array.from({ length: 50 }, (_, at) =>
				at % 2 === 0
					? ask(controller, "POST", "/v1/enrol", { as: {}, body: {} })
					: ask(controller, "GET", "/nothing", { as: {} }),
			),
		);
		expect(answers.filter(({ code }) => code === "rate-limited").length).toBeGreaterThanOrEqual(20);
		await expect(enrolFakeAgent(controller.info.url, token)).rejects.toThrow(/rate-limited/);
		expect((await ask(controller, "GET", "/v1/agents", { as: who["olga"] as Identity })).status).toBe(200);
	});
});

describe("the counters", () => {
	test("by default 500 machines behind one address enrol in one minute, and 500 jobs are ordered and waited for", async () => {
		const limits = makeRateLimits(requestRates);
		for (let count = 0; count < 1_000; count += 1) await limits.takeRequest({ role: "nobody" }, "192.0.2.1", true);
		const operator = { role: "operator", name: "olga", serial: "1" } as const;
		for (let count = 0; count < 500; count += 1) await limits.takeRequest(operator, "192.0.2.2", true);
		for (let count = 0; count < 2_000; count += 1) await limits.takeRequest(operator, "192.0.2.2", false);
		for (let count = 0; count < 60; count += 1) await limits.takeLink("agent-1");
	});

	test("all unknown callers together have a limit, and each link of an agent counts", async () => {
		const limits = makeRateLimits({
			...requestRates,
			unknownCallersInAll: { points: 5, perS: 60 },
			links: rates.links,
		});
		const take = (address: string) => limits.takeRequest({ role: "nobody" }, address, false);
		for (let count = 0; count < 5; count += 1) await take(`192.0.2.${count}`);
		await expect(take("192.0.2.9")).rejects.toMatchObject({ code: "rate-limited", details: { retryAfterS: 60 } });
		for (let count = 0; count < 5; count += 1) await limits.takeLink("agent-1");
		await expect(limits.takeLink("agent-1")).rejects.toMatchObject({ code: "rate-limited" });
		await limits.takeLink("agent-2");
	});

	test("a hundred thousand addresses share counters: each with its own would take 50 MB", async () => {
		const limits = makeRateLimits({ ...requestRates, unknownCallersInAll: { points: 1_000_000, perS: 60 } });
		const before = process.memoryUsage().heapUsed;
		for (let count = 0; count < 100_000; count += 1)
			await limits
				.takeRequest({ role: "nobody" }, `10.${count >> 16}.${(count >> 8) & 255}.${count & 255}`, false)
				.catch(() => {});
		globalThis.gc?.();
		expect(process.memoryUsage().heapUsed - before).toBeLessThan(30_000_000);
	});

	test.each([
		["192.0.2.1", "192.0.2.1"],
		["::ffff:192.0.2.1", "192.0.2.1"],
		["2001:db8::1", "2001:db8:0:0"],
		["2001:db8:0:0:ffff::2", "2001:db8:0:0"],
		["2001:db8:1::", "2001:db8:1:0"],
		["fe80::1%eth0", "fe80:0:0:0"],
		["::1", "0:0:0:0"],
	])("%s counts as %s", (address, network) => {
		expect(networkOf(address)).toBe(network);
	});
});

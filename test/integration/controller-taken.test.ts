/** Disks that the controller names as soon as their copy is complete, to an agent that keeps the rules. */
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import type { FakeAgent, FakeAgentOptions } from "../fakes/fake-agent.ts";
import {
	addFakeAgent,
	type ControllerRun,
	makeImage,
	makeTestFolder,
	startController,
} from "../fixtures/controller-run.ts";

const mib = 1024 * 1024;
let folder: Awaited<ReturnType<typeof makeTestFolder>>;
let controller: ControllerRun;
let images: Record<string, string>;
const agents: FakeAgent[] = [];

beforeEach(async () => {
	folder = await makeTestFolder();
	const limits = { lateReportMs: 1_000, startWithinMs: 500, answerMs: 500 };
	controller = await startController(join(folder.path, "state"), { limits });
	const make = (name: string, length: number) => makeImage(join(folder.path, name), 64 * mib, [{ offset: 0, length }]);
	images = { vda: await make("a.img", 9 * mib), vdb: await make("b.img", mib), vdc: await make("c.img", 5 * mib) };
});
afterEach(async () => {
	for (const agent of agents.splice(0)) {
		expect(agent.violations).toEqual([]);
		await agent[Symbol.asyncDispose]();
	}
	await controller[Symbol.asyncDispose]();
	await folder[Symbol.asyncDispose]();
});

async function snapshot(options: Partial<FakeAgentOptions>, body: { level?: "crash" } = {}) {
	const agent = await addFakeAgent(controller, images, options);
	agents.push(agent);
	const { jobId } = await controller.client.orderSnapshot(agent.agentId, body);
	return { agent, job: await controller.client.waitForJob(jobId) };
}
const takenOf = ({ story }: FakeAgent) => story.filter((word) => word.startsWith("taken:") || word === "done");

test("an older agent never hears the word", async () => {
	const { agent, job } = await snapshot({});
	expect(job.state).toBe("done");
	expect(takenOf(agent)).toEqual(["done"]);
	const declined = await snapshot({ perDisk: false });
	expect(takenOf(declined.agent)).toEqual(["done"]);
});

test("one that wants it hears of each disk, the smallest first, and done names them again", async () => {
	const { agent, job } = await snapshot({ perDisk: true });
	expect(job.state).toBe("done");
	expect(takenOf(agent)).toEqual(["taken:vdb", "taken:vdc", "taken:vda", "done"]);
	const told = agent.heard.flatMap((message) => (message.type === "taken" ? [message.disk] : []));
	const done = agent.heard.find((message) => message.type === "done")?.disks ?? [];
	expect(done.map(({ name }) => name)).toEqual(["vda", "vdb", "vdc"]);
	expect(told.toSorted((a, b) => a.name.localeCompare(b.name))).toEqual(done);
});

test("nothing is told of a disk whose copy failed, nor of those after it", async () => {
	const { agent, job } = await snapshot({
		perDisk: true,
		whenFrozen: () => rm(images["vdc"] as string),
	});
	expect(job.state).toBe("failed");
	expect(takenOf(agent)).toEqual(["taken:vdb"]);
	expect(agent.story).toContain("thaw:snapshot-failed");
});

test("where nothing is frozen there is nothing to let go", async () => {
	const { agent, job } = await snapshot({ perDisk: true, worth: "crash" }, { level: "crash" });
	expect(job.state).toBe("done");
	expect(takenOf(agent)).toEqual(["done"]);
});

test("a stall budget reaches the agent, and another one under the same job id is another order", async () => {
	const agent = await addFakeAgent(controller, images);
	agents.push(agent);
	const stall = { budgetMs: 500, waitMs: 2_000 };
	const { jobId } = await controller.client.orderSnapshot(agent.agentId, { jobId: "one", stall });
	await controller.client.waitForJob(jobId);
	expect(agent.heard.find((message) => message.type === "order")?.order.stall).toEqual(stall);
	const again = (budgetMs: number) =>
		controller.client.orderSnapshot(agent.agentId, { jobId: "one", stall: { ...stall, budgetMs } });
	await expect(again(501)).rejects.toMatchObject({ code: "job-conflict" });
	expect((await again(500)).jobId).toBe("one");
	const none = controller.client.orderSnapshot(agent.agentId, { jobId: "two", stall: { budgetMs: 0 } });
	await expect(none).rejects.toMatchObject({ code: "order-invalid" });
});

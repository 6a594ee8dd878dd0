import { once } from "node:events";
import { rm } from "node:fs/promises";
import type { IncomingMessage } from "node:http";
import { Agent, request } from "node:https";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { AnyRoute } from "../../controller/api/route.ts";
import { routeTable } from "../../controller/api/route-table.ts";
import { openCertificateAuthority } from "../../controller/certificate-authority.ts";
import { enrolFakeAgent, makeKeyAndRequest } from "../fakes/fake-enrolment.ts";
import { addCredential, ask, type Identity } from "../fixtures/api-caller.ts";
import { addFakeAgent, type ControllerRun, makeTestFolder, startController } from "../fixtures/controller-run.ts";

let folder: Awaited<ReturnType<typeof makeTestFolder>>;
let controller: ControllerRun;
const identities: Record<string, Identity> = { nobody: {} };

beforeAll(async () => {
	folder = await makeTestFolder();
	controller = await startController(join(folder.path, "state"), { limits: { lateReportMs: 1_000 } });
	const other = await openCertificateAuthority(join(folder.path, "other-ca"));
	const { key, certificate: cert } = await other.issueOperator();
	const { token } = await controller.client.createToken();
	identities["stranger"] = { key, cert };
	identities["agent"] = await enrolFakeAgent(controller.info.url, token);
	identities["viewer"] = await addCredential(controller, "vera", "viewer");
	identities["operator"] = await addCredential(controller, "olga", "operator");
	identities["revoked"] = await addCredential(controller, "rita", "operator");
	await controller.client.revokeCredential("rita");
});
afterAll(async () => {
	await controller[Symbol.asyncDispose]();
	await folder[Symbol.asyncDispose]();
});

/** Who may, for each word that a route can say of itself. */
const allowed: Record<AnyRoute["access"], readonly string[]> = {
	anybody: ["nobody", "stranger", "agent", "viewer", "operator", "revoked"],
	holder: ["agent", "viewer", "operator"],
	viewer: ["viewer", "operator"],
	operator: ["operator"],
};
const refusals: Record<string, string> = {
	nobody: "not-allowed",
	stranger: "certificate-invalid",
	agent: "not-allowed",
	viewer: "not-allowed",
	operator: "not-allowed",
	revoked: "certificate-revoked",
};

/** Names nothing that exists, and a body that no schema takes: who is let in does no harm. */
function askNothing({ method, path }: AnyRoute, who: string) {
	const body = method === "GET" ? {} : { body: { nothing: "like this" } };
	return ask(controller, method, path.replaceAll(/\{\w+\}/g, "no-such-thing"), {
		as: identities[who] as Identity,
		...body,
	});
}

describe("every route for every role", () => {
	test.each(routeTable.map((route) => [`${route.method} ${route.path}`, route] as const))("%s", async (_, route) => {
		const answers = await Promise.all(Object.keys(refusals).map((who) => askNothing(route, who)));
		const found = Object.keys(refusals).map((who, at) => {
			const { status, code } = answers[at] as (typeof answers)[number];
			return [who, status === 403 ? code : "let in"];
		});
		const wanted = Object.entries(refusals).map(([who, code]) => [
			who,
			allowed[route.access].includes(who) ? "let in" : code,
		]);
		expect(found).toEqual(wanted);
	});

	test("whatever changes something is for operators; only the two ways in are for anybody", () => {
		const changing = routeTable.filter(({ method }) => method !== "GET");
		expect(changing.filter(({ access }) => access !== "operator").map(({ id }) => id)).toEqual([
			"enrol",
			"requestEnrolment",
		]);
		expect(routeTable.filter(({ method, access }) => method === "GET" && access === "anybody")).toEqual([]);
		expect(changing.filter(({ audit }) => audit === undefined)).toEqual([]);
	});
});

describe("a credential is good as long as the controller says", () => {
	test("revoked: the next request on an open connection is refused", async () => {
		const as = await addCredential(controller, "kai", "viewer");
		using agent = withDispose(new Agent({ keepAlive: true, maxSockets: 1, ca: controller.access.ca, ...as }));
		expect((await ask(controller, "GET", "/v1/agents", { as, agent: agent.agent })).status).toBe(200);
		await controller.client.revokeCredential("kai");
		const answer = await ask(controller, "GET", "/v1/agents", { as, agent: agent.agent });
		expect([answer.status, answer.code]).toEqual([403, "certificate-revoked"]);
		expect(Object.values(agent.agent.freeSockets).flat()).toHaveLength(1);
	});

	test("revoked: an answer that was waited for is refused, too", async () => {
		const as = await addCredential(controller, "lea", "viewer");
		await using agent = await addFakeAgent(controller, { vda: "/nowhere" }, { silentOn: ["prepared"] });
		const { jobId } = await controller.client.orderSnapshot(agent.agentId, {});
		const waiting = ask(controller, "GET", `/v1/jobs/${jobId}?waitMs=50000`, { as });
		const other = ask(controller, "GET", `/v1/jobs/${jobId}?waitMs=50000`);
		await expect(controller.client.revokeCredential("lea")).resolves.toMatchObject({ name: "lea" });
		await controller.client.cancelJob(jobId);
		expect((await waiting).code).toBe("certificate-revoked");
		expect((await other).body.state).toBe("failed");
		await expect(controller.client.revokeCredential("lea")).rejects.toMatchObject({ code: "not-found" });
	});

	test("revoked while its body is on the way: nothing is done", async () => {
		const as = await addCredential(controller, "ina", "operator");
		const before = (await controller.client.listAudit({ actor: "ina", outcome: "ok" })).entries;
		const options = { ca: controller.access.ca, ...as, method: "POST", agent: false as const };
		const headers = { expect: "100-continue", "content-length": "2" };
		const outgoing = request(`${controller.info.url}/v1/tokens`, { ...options, headers });
		outgoing.flushHeaders();
		await once(outgoing, "continue");
		await controller.client.revokeCredential("ina");
		outgoing.end("{}");
		const [incoming] = (await once(outgoing, "response")) as [IncomingMessage];
		expect(JSON.parse(Buffer.concat(await incoming.toArray()).toString()).error.code).toBe("certificate-revoked");
		expect((await controller.client.listAudit({ actor: "ina", outcome: "ok" })).entries).toEqual(before);
	});

	test("a name that is given again does not bring the old certificate back", async () => {
		const first = await addCredential(controller, "mia", "operator");
		await expect(addCredential(controller, "mia", "operator")).rejects.toMatchObject({ code: "name-taken" });
		await controller.client.revokeCredential("mia");
		const second = await addCredential(controller, "mia", "viewer");
		expect((await ask(controller, "GET", "/v1/agents", { as: first })).code).toMatch(/^certificate-/);
		expect((await ask(controller, "GET", "/v1/agents", { as: second })).status).toBe(200);
		expect((await ask(controller, "POST", "/v1/tokens", { as: second, body: {} })).code).toBe("not-allowed");
	});

	test("expired: refused, also where the connection is older", async () => {
		const as = await addCredential(controller, "nia", "viewer", 2_000);
		using agent = withDispose(new Agent({ keepAlive: true, maxSockets: 1, ca: controller.access.ca, ...as }));
		const poll = async () => (await ask(controller, "GET", "/v1/agents", { as, agent: agent.agent })).code;
		await expect.poll(poll, { timeout: 10_000, interval: 200 }).toBe("certificate-invalid");
		expect(await addCredential(controller, "nia", "viewer")).toBeDefined();
	});

	test("a certificate of our own CA with a name or role that we never gave is refused", async () => {
		const authority = await openCertificateAuthority(join(folder.path, "state", "ca"));
		const issue = async (name: string, role: "operator" | "viewer") => {
			const { key, csr } = await makeKeyAndRequest();
			return { key, cert: (await authority.issueCredential(name, role, csr, 60_000)).certificate };
		};
		for (const as of [await issue("ghost", "operator"), await issue("vera", "operator"), await issue("vera", "viewer")])
			expect((await ask(controller, "GET", "/v1/agents", { as })).code).toMatch(/^certificate-/);
		const evil = await issue("eve\nOU=operator", "viewer");
		expect((await ask(controller, "GET", "/v1/agents", { as: evil })).code).toBe("certificate-invalid");
	});

	test.each([
		["no name", { name: "" }, "name"],
		["a path", { name: "../x" }, "name"],
		["control characters", { name: "a\nb" }, "name"],
		["65 letters", { name: "a".repeat(65) }, "name"],
		["no such role", { role: "root" }, "role"],
		["agent is no role of a person", { role: "agent" }, "role"],
		["no time", { validMs: 0 }, "validMs"],
	])("%s is refused", async (_, part, field) => {
		const body = { name: "x", role: "viewer", csr: "x", ...part };
		const answer = await ask(controller, "POST", "/v1/credentials", { body });
		expect([answer.status, answer.code, answer.body.error.details.field]).toEqual([400, "message-invalid", field]);
	});

	test("a request that does not prove its key is refused, and takes no name", async () => {
		const body = { name: "pia", role: "viewer", csr: "garbage" };
		expect((await ask(controller, "POST", "/v1/credentials", { body })).code).toBe("certificate-invalid");
		expect((await controller.client.listCredentials()).some(({ name }) => name === "pia")).toBe(false);
	});
});

describe("the operator of the controller's host", () => {
	test("is a credential like the others, and nobody takes its name or locks it out", async () => {
		expect(await controller.client.listCredentials()).toContainEqual(
			expect.objectContaining({ name: "operator", role: "operator" }),
		);
		await expect(controller.client.revokeCredential("operator")).rejects.toMatchObject({ code: "not-allowed" });
		await expect(addCredential(controller, "operator", "viewer")).rejects.toMatchObject({ code: "name-taken" });
		expect(await controller.client.listAgents()).toBeInstanceOf(Array);
	});

	test("is replaced when its folder is removed: the stolen copy is refused from the next start on", async () => {
		const stateDir = join(folder.path, "stolen");
		const first = await startController(stateDir);
		const stolen = first.access;
		await first.stop();
		await rm(join(stateDir, "operator"), { recursive: true });
		await using second = await startController(stateDir);
		expect((await ask(second, "GET", "/v1/agents", { as: stolen })).code).toBe("certificate-revoked");
		expect((await ask(second, "GET", "/v1/agents")).status).toBe(200);
	});
});

function withDispose(agent: Agent): Disposable & { agent: Agent } {
	return { agent, [Symbol.dispose]: () => agent.destroy() };
}

import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { asStillpointError, StillpointError } from "../../contracts/errors.ts";
import { type Audit, makeAudit, plainText } from "../../controller/audit.ts";
import { renewAudited } from "../../controller/audited-deeds.ts";
import type { AuditQuery } from "../../controller/client.ts";
import type { Store, StoredAuditEntry } from "../../controller/store.ts";
import { enrolFakeAgent, fakeMachine, makeKeyAndRequest } from "../fakes/fake-enrolment.ts";
import { addCredential, ask, type Identity } from "../fixtures/api-caller.ts";
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
let viewer: Identity;

beforeAll(async () => {
	folder = await makeTestFolder();
	controller = await startController(join(folder.path, "state"));
	viewer = await addCredential(controller, "vera", "viewer");
});
afterAll(async () => {
	await controller[Symbol.asyncDispose]();
	await folder[Symbol.asyncDispose]();
});
const list = async (query: AuditQuery) => (await controller.client.listAudit(query)).entries;

describe("the audit log", () => {
	test("says who ordered what, from where, and how it and its job ended", async () => {
		const image = await makeImage(join(folder.path, "a.img"), mib, [{ offset: 0, length: 4096 }]);
		await using agent = await addFakeAgent(controller, { vda: image });
		const { jobId } = await controller.client.orderSnapshot(agent.agentId, { level: "file-system" });
		await controller.client.followJob(jobId);
		await expect.poll(() => list({ target: jobId }), { timeout: 10_000 }).toHaveLength(2);
		const [end, order] = await list({ target: jobId });
		const operator = (await controller.client.listCredentials()).find(({ name }) => name === "operator");
		expect(order).toMatchObject({
			actor: "operator",
			role: "operator",
			serial: operator?.serial,
			address: "127.0.0.1",
		});
		expect(order).toMatchObject({ action: "snapshot.order", outcome: "ok", details: { agentId: agent.agentId } });
		expect(end).toMatchObject({
			actor: "controller",
			action: "job.end",
			outcome: "ok",
			details: { level: "file-system" },
		});
		expect(end?.sequence).toBeGreaterThan(order?.sequence ?? 0);
		const enrolled = await list({ action: "agent.enrol", target: agent.agentId });
		expect(enrolled).toMatchObject([{ actor: "nobody", role: "nobody", outcome: "ok" }]);
	});

	test("keeps what was refused: not allowed, invalid, not there", async () => {
		await ask(controller, "POST", "/v1/agents/agent-x/snapshots", { as: viewer, body: {} });
		await ask(controller, "PUT", "/v1/agents/agent-y/disks", { body: { disks: 5 } });
		await ask(controller, "POST", "/v1/jobs/job-z/cancel", { body: {} });
		await ask(controller, "POST", "/v1/tokens", { as: {}, body: {} });
		const look = async (query: AuditQuery) =>
			(await list(query)).map(({ actor, action, outcome }) => [actor, action, outcome]);
		expect(await look({ target: "agent-x" })).toEqual([["vera", "snapshot.order", "not-allowed"]]);
		expect(await look({ target: "agent-y" })).toEqual([["operator", "agent.map-disks", "order-invalid"]]);
		expect(await look({ target: "job-z" })).toEqual([["operator", "job.cancel", "job-unknown"]]);
		expect(await look({ actor: "nobody", action: "token.create" })).toEqual([
			["nobody", "token.create", "not-allowed"],
		]);
		expect(await list({ actor: "vera", outcome: "ok" })).toEqual([]);
	});

	test("tells which certificate somebody tried who is refused", async () => {
		const as = await addCredential(controller, "gone", "operator");
		const { serial } = await controller.client.revokeCredential("gone");
		expect((await ask(controller, "POST", "/v1/tokens", { as, body: {} })).code).toBe("certificate-revoked");
		expect(await list({ action: "token.create", outcome: "certificate-revoked" })).toMatchObject([
			{ actor: "nobody", role: "untrusted", serial },
		]);
	});

	test("holds no token, no certificate request and no key, whatever was sent", async () => {
		const { token } = await controller.client.createToken();
		const { csr } = await makeKeyAndRequest();
		await enrolFakeAgent(controller.info.url, token);
		await ask(controller, "POST", "/v1/enrol", { as: {}, body: { token, csr, machine: fakeMachine } });
		await ask(controller, "POST", "/v1/enrol", { as: {}, body: { token, csr, machine: 5 } });
		await ask(controller, "POST", "/v1/credentials", { body: { name: "eva", role: "viewer", csr } });
		const text = JSON.stringify(await list({ limit: 1_000 }));
		expect(text).toContain("token-invalid");
		expect(text).not.toContain(token.split(".")[2]);
		expect(text).not.toMatch(/BEGIN|PRIVATE|MII|"csr"/);
	});

	test("is paged without a gap or a double, and refuses what is no filter", async () => {
		const all = await list({ limit: 1_000 });
		const paged: StoredAuditEntry[] = [];
		for (let before: number | undefined; ; ) {
			const page = await controller.client.listAudit({ limit: 2, ...(before === undefined ? {} : { before }) });
			paged.push(...(page.entries as StoredAuditEntry[]));
			before = page.next;
			if (before === undefined) break;
		}
		expect(paged).toEqual(all);
		expect(all.length).toBeGreaterThan(5);
		for (const query of ["limit=0", "limit=1001", "limit=x", "before=-1", "actor=", "who=x", "limit=1&limit=2"])
			expect([query, (await ask(controller, "GET", `/v1/audit?${query}`)).code]).toEqual([query, "message-invalid"]);
		expect((await ask(controller, "GET", "/v1/audit?limit=1", { as: viewer })).status).toBe(200);
	});

	test("cannot be forged: what would end a line or turn the reading direction is a question mark", async () => {
		expect(plainText("a\nb\u0000\u001b[2J\u202ec\u2028d\ud800")).toBe("a?b??[2J?c?d?");
		await ask(controller, "POST", `/v1/jobs/${encodeURIComponent("x\noperator\u202e")}/cancel`, { body: {} });
		const machine = { hostname: "good\r\nhost", platform: "linux" };
		await ask(controller, "POST", "/v1/enrolment-requests", { as: {}, body: { machine, reason: "\u001b[31mred" } });
		expect((await list({ action: "job.cancel", limit: 1 }))[0]?.target).toBe("x?operator?");
		const [request] = await list({ action: "enrolment.request" });
		expect(request).toMatchObject({ target: "good??host", details: { reason: "?[31mred" } });
	});
});

describe("an audit log that cannot be written", () => {
	test("nothing is done that it would not show; only what undoes is, and a refusal stays one", async () => {
		const image = await makeImage(join(folder.path, "b.img"), mib, [{ offset: 0, length: 4096 }]);
		const stateDir = join(folder.path, "broken");
		await (await startController(stateDir)).stop();
		// A trigger is the database's own way to refuse one table and no other.
		const database = new DatabaseSync(join(stateDir, "controller.sqlite"));
		database.exec(
			"create trigger broken before insert on audit when new.action <> 'agent.enrol' and new.action <> 'agent.map-disks' and new.action <> 'snapshot.order' and new.action <> 'token.create' begin select raise(abort, 'broken'); end",
		);
		database.close();
		await using broken = await startController(stateDir, { limits: { lateReportMs: 500 } });
		await using agent = await addFakeAgent(broken, { vda: image }, { silentOn: ["prepared"] });
		const { key, csr } = await makeKeyAndRequest();
		expect(key).toBeDefined();
		const issue = await ask(broken, "POST", "/v1/credentials", { body: { name: "eva", role: "operator", csr } });
		expect([issue.status, issue.code]).toEqual([500, "internal"]);
		expect((await broken.client.listCredentials()).map(({ name }) => name)).toEqual(["operator"]);
		expect((await ask(broken, "POST", "/v1/credentials", { as: {}, body: {} })).code).toBe("not-allowed");
		const { jobId } = await broken.client.orderSnapshot(agent.agentId, {});
		await broken.client.cancelJob(jobId);
		expect(await broken.client.followJob(jobId)).toMatchObject({ state: "failed", error: { code: "cancelled" } });
		expect(broken.lines.join("\n")).toContain("done all the same");
	});
});

describe("a flood of refusals", () => {
	type Added = Omit<StoredAuditEntry, "sequence">;
	function makeSink(): { entries: Added[]; audit: Audit } {
		const entries: Added[] = [];
		const store: Pick<Store, "addAuditEntry" | "settleAuditEntry"> = {
			addAuditEntry: async (entry) => entries.push(entry),
			settleAuditEntry: async (sequence, end) => void Object.assign(entries[sequence - 1] as Added, end),
		};
		const quiet = () => {};
		return { entries, audit: makeAudit(store, { debug: quiet, info: quiet, warn: quiet, error: quiet }) };
	}

	test("becomes two entries of one caller, and a bounded number of many callers", async () => {
		const { entries, audit } = makeSink();
		const refuse = (address: string) =>
			audit.noteRepeatable(
				{ actor: { name: "nobody", role: "nobody", address }, action: "agent.enrol" },
				"token-invalid",
			);
		for (let count = 0; count < 500; count += 1) await refuse("192.0.2.1");
		expect(entries).toHaveLength(1);
		for (let count = 0; count < 5_000; count += 1) await refuse(`198.51.${count >> 8}.${count & 255}`);
		expect(entries.length).toBeLessThan(250);
		await audit[Symbol.asyncDispose]();
		const repeated = entries.map(({ details }) => Number(details?.["repeated"] ?? 0)).reduce((sum, one) => sum + one);
		const first = entries.filter(({ details }) => details === undefined).length;
		expect(repeated + first).toBe(5_500);
	});

	test("of one caller, whatever it names, takes no place from the refusals of another", async () => {
		const { entries, audit } = makeSink();
		const refuse = (name: string, address: string, target: string) =>
			audit.noteRepeatable({ actor: { name, role: "viewer", address }, action: "agent.revoke", target }, "not-allowed");
		for (let count = 0; count < 1_000; count += 1) await refuse("vera", "192.0.2.1", `a-${count}`);
		for (let count = 0; count < 1_000; count += 1) await refuse("nobody", "192.0.2.1", `a-${count}`);
		expect(entries.length).toBeLessThan(250);
		expect(entries.filter(({ actor, action }) => actor === "vera" && action === "many")).toHaveLength(1);
		await refuse("max", "192.0.2.2", "x");
		expect(await refuse("nobody", "192.0.2.2", "x")).toBe(true);
		expect(entries.slice(-2)).toMatchObject([
			{ actor: "max", target: "x" },
			{ actor: "nobody", address: "192.0.2.2", target: "x" },
		]);
		await audit[Symbol.asyncDispose]();
	});

	test("of bad tokens and of wishes to be enrolled that anybody may send is not an entry for each", async () => {
		const count = async () => (await list({ limit: 1_000 })).length;
		const before = await count();
		const { token } = await controller.client.createToken();
		const wrong = token.replace(/\.[^.]{43}\./, `.${"A".repeat(43)}.`);
		const machine = { hostname: "flood", platform: "linux" };
		const body = { token: wrong, csr: (await makeKeyAndRequest()).csr, machine };
		for (let times = 0; times < 10; times += 1) {
			expect((await ask(controller, "POST", "/v1/enrol", { as: {}, body })).code).toBe("token-invalid");
			const wish = { machine, reason: "a copy" };
			expect((await ask(controller, "POST", "/v1/enrolment-requests", { as: {}, body: wish })).status).toBe(202);
		}
		expect((await count()) - before).toBeLessThanOrEqual(3);
		expect(await list({ action: "enrolment.request", target: "flood" })).toHaveLength(1);
	});

	test("a certificate is renewed in writing: begun before it is given out, and settled with what came of it", async () => {
		const { entries, audit } = makeSink();
		await renewAudited(audit, "agent-1", async () => {
			expect(entries).toMatchObject([{ action: "agent.renew-certificate", actor: "agent-1", outcome: "begun" }]);
			return "certificate";
		});
		const refuse = async () => Promise.reject(new StillpointError("certificate-invalid", "no"));
		await renewAudited(audit, "agent-1", refuse).catch(asStillpointError);
		expect(entries.map(({ outcome }) => outcome)).toEqual(["ok", "certificate-invalid"]);
	});
});

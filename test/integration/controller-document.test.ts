import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { z } from "zod";
import { errorAnswerSchema } from "../../contracts/controller-api.ts";
import { errorCodes } from "../../contracts/errors.ts";
import { errorsOf } from "../../controller/api/openapi-document.ts";
import { routeTable } from "../../controller/api/route-table.ts";
import { httpStatusOf } from "../../controller/http-status.ts";
import type { FakeAgent } from "../fakes/fake-agent.ts";
import { enrolFakeAgent, fakeMachine, makeKeyAndRequest } from "../fakes/fake-enrolment.ts";
import { addCredential, ask } from "../fixtures/api-caller.ts";
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
let agent: FakeAgent;
const ids: Record<string, string> = {};

beforeAll(async () => {
	folder = await makeTestFolder();
	const verify = async () => ({
		schemaVersion: 1 as const,
		recoveryPointId: ids["recoveryPointId"] as string,
		verifiedAt: new Date().toISOString(),
		durationMs: 1,
		label: "file-system" as const,
		looksLike: "file-system" as const,
		agrees: true,
		findings: [],
	});
	controller = await startController(join(folder.path, "state"), { verify });
	const image = await makeImage(join(folder.path, "a.img"), mib, [{ offset: 0, length: 4096 }]);
	agent = await addFakeAgent(controller, { vda: image });
	const { jobId } = await controller.client.orderSnapshot(agent.agentId, {});
	const job = await controller.client.followJob(jobId);
	await addCredential(controller, "max", "viewer");
	Object.assign(ids, { agentId: agent.agentId, jobId, recoveryPointId: job.recoveryPointId, name: "max" });
});
afterAll(async () => {
	await agent[Symbol.asyncDispose]();
	await controller[Symbol.asyncDispose]();
	await folder[Symbol.asyncDispose]();
});

// What of OpenAPI 3.1.0 the document uses (https://spec.openapis.org/oas/v3.1.0), and nothing else: a slip of the
// generator that puts something in the wrong place is found.
const schemaObject = z.record(z.string(), z.unknown());
const content = z.partialRecord(
	z.enum(["application/json", "text/event-stream"]),
	z.strictObject({ schema: schemaObject }),
);
const parameter = z.strictObject({
	name: z.string(),
	in: z.enum(["path", "query", "header"]),
	required: z.boolean(),
	schema: schemaObject,
});
const operation = z.strictObject({
	operationId: z.string().regex(/^[a-z][A-Za-z]+$/),
	tags: z.array(z.string()).length(1),
	summary: z.string().regex(/[.?]$/),
	description: z.string(),
	"x-access": z.enum(["anybody", "holder", "viewer", "operator"]),
	security: z.array(z.strictObject({ clientCertificate: z.array(z.enum(["viewer", "operator"])) })).max(1),
	parameters: z.array(parameter).optional(),
	requestBody: z.strictObject({ content, required: z.boolean().optional() }).optional(),
	responses: z.record(
		z.string().regex(/^[245]\d\d$/),
		z.strictObject({
			description: z.string().min(3),
			content: content.optional(),
			headers: z.record(z.string(), z.object({ schema: schemaObject })).optional(),
			"x-codes": z.array(z.enum(errorCodes)).optional(),
		}),
	),
});
const documentSchema = z.strictObject({
	openapi: z.literal("3.1.0"),
	info: z.object({
		title: z.string(),
		version: z.string(),
		description: z.string(),
		license: z.object({ name: z.string() }),
	}),
	servers: z.array(z.strictObject({ url: z.url() })),
	components: z.strictObject({
		securitySchemes: z.strictObject({
			clientCertificate: z.strictObject({ type: z.literal("mutualTLS"), description: z.string() }),
		}),
		schemas: z.record(z.string().regex(/^[A-Za-z]+$/), schemaObject),
		parameters: z.record(z.string(), z.never()).optional(),
	}),
	webhooks: z.strictObject({}).optional(),
	paths: z.record(
		z.string().regex(/^\/v1\/[a-z{][A-Za-z\-{}/.]*$/),
		z.partialRecord(z.enum(["get", "post", "put", "delete"]), operation),
	),
});
const readDocument = async () => documentSchema.parse((await ask(controller, "GET", "/v1/openapi.json")).body);

function* findRefs(value: unknown): Generator<string> {
	if (typeof value !== "object" || value === null) return;
	if ("$ref" in value && typeof value.$ref === "string") yield value.$ref;
	for (const one of Object.values(value)) yield* findRefs(one);
}

describe("the document", () => {
	test("has the structure of OpenAPI 3.1, and every reference leads somewhere", async () => {
		const document = await readDocument();
		const refs = [...new Set(findRefs(document))];
		const known = Object.keys(document.components.schemas).map((name) => `#/components/schemas/${name}`);
		expect(refs.filter((ref) => !known.includes(ref))).toEqual([]);
		expect(known.filter((name) => !refs.includes(name))).toEqual([]);
		expect(() => documentSchema.parse({ ...document, openapi: "3.0.0" })).toThrow();
	});

	test("names every route once, with its parameters, its role and the statuses of its codes", async () => {
		const { paths } = await readDocument();
		const told = Object.entries(paths).flatMap(([path, one]) =>
			Object.keys(one).map((method) => `${method.toUpperCase()} ${path}`),
		);
		expect(told.sort()).toEqual(routeTable.map(({ method, path }) => `${method} ${path}`).sort());
		expect(new Set(routeTable.map(({ id }) => id)).size).toBe(routeTable.length);
		for (const route of routeTable) {
			const one = paths[route.path]?.[route.method.toLowerCase() as "get"];
			const inPath = (one?.parameters ?? []).filter((each) => each.in === "path").map(({ name }) => name);
			expect(inPath).toEqual([...route.path.matchAll(/\{(\w+)\}/g)].map((match) => match[1]));
			expect(one?.["x-access"]).toBe(route.access);
			expect(one?.requestBody === undefined).toBe(route.method === "GET");
			const statuses = [route.status, ...errorsOf(route).map(httpStatusOf), ...(route.isStream ? [204] : [])];
			expect(Object.keys(one?.responses ?? {}).map(Number)).toEqual([...new Set(statuses)].sort());
		}
	});

	test("is for everybody with a certificate, and is the file that docs shows", async () => {
		const { token } = await controller.client.createToken();
		const as = await enrolFakeAgent(controller.info.url, token);
		const { status, body } = await ask(controller, "GET", "/v1/openapi.json", { as });
		expect([status, body]).toEqual([
			200,
			(await import("../../docs/openapi.json", { with: { type: "json" } })).default,
		]);
		expect((await ask(controller, "GET", "/v1/openapi.json", { as: {} })).code).toBe("not-allowed");
	});
});

describe("the running server", () => {
	const bodies: Record<string, () => Promise<unknown>> = {
		mapDisks: async () => ({ disks: [{ name: "vda", image: join(folder.path, "a.img") }] }),
		revokeAgent: async () => ({ reason: "the test is over" }),
		orderSnapshot: async () => ({ jobId: "documented" }),
		createToken: async () => ({ validMs: 5_000 }),
		enrol: async () => {
			const { token } = await controller.client.createToken();
			return { token, csr: (await makeKeyAndRequest()).csr, machine: fakeMachine };
		},
		requestEnrolment: async () => ({ machine: fakeMachine, formerAgentId: "agent-x", reason: "a copy" }),
		issueCredential: async () => ({ name: "new", role: "viewer", csr: (await makeKeyAndRequest()).csr }),
	};
	/** What takes away what others need comes last. */
	const order = ["revokeCredential", "removeEnrolmentRequest", "revokeAgent", "removeAgent"];
	const walk = [...routeTable].sort((a, b) => order.indexOf(a.id) - order.indexOf(b.id));

	test("answers every route as documented: well, with what does not exist, and with a field too many", async () => {
		const answered: string[] = [];
		for (const route of walk) {
			if (route.id === "removeEnrolmentRequest")
				ids["requestId"] = (await controller.client.listEnrolmentRequests())[0]?.id as string;
			const at = (values: Record<string, string>) =>
				route.path.replaceAll(/\{(\w+)\}/g, (_, name) => values[name] ?? "no-such-thing");
			const body = (await bodies[route.id]?.()) ?? (route.method === "GET" ? undefined : {});
			const good = await ask(controller, route.method, at(ids), { body });
			// The fake agent answers with less than a status.
			if (route.id !== "readAgentStatus" && route.id !== "readVerification") {
				expect([route.id, good.status, good.code]).toEqual([route.id, route.status, undefined]);
				if (!route.isStream) expect(() => route.answer.parse(good.body), route.id).not.toThrow();
			}
			answered.push(route.id);
			const faults = [await ask(controller, route.method, `${at(ids)}?nothing=1`, { body })];
			if (route.path.includes("{")) faults.push(await ask(controller, route.method, at({}), { body }));
			if (body !== undefined)
				faults.push(await ask(controller, route.method, at(ids), { body: { ...(body as object), nothing: 1 } }));
			for (const fault of faults) {
				const { error } = errorAnswerSchema.parse(fault.body);
				expect(errorsOf(route), route.id).toContain(error.code);
				expect(fault.status).toBe(httpStatusOf(error.code));
				expect(error.remedy?.length).toBeGreaterThan(10);
			}
			if (route.id === "orderSnapshot") await controller.client.followJob("documented");
		}
		expect(answered).toHaveLength(routeTable.length);
	});

	test("answers nothing that is not documented", async () => {
		const paths = [...new Set(routeTable.map(({ path }) => path.replaceAll(/\{\w+\}/g, "x")))];
		const others = [
			"/",
			"/v1",
			"/v1/",
			"/v2/agents",
			"/v1/agents/",
			"/v1/agents/x/y",
			"/v1/link",
			"/openapi.json",
			"/v1//agents",
		];
		for (const path of others) expect([path, (await ask(controller, "GET", path)).code]).toEqual([path, "not-found"]);
		const methods = ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"];
		for (const path of paths) {
			const known = routeTable
				.filter((one) => one.path.replaceAll(/\{\w+\}/g, "x") === path)
				.map(({ method }) => method);
			const unknown = methods.filter((method) => !known.includes(method as "GET"));
			const answers = await Promise.all(unknown.map((method) => ask(controller, method, path)));
			for (const { status, code, headers } of answers) {
				expect([path, status, code]).toEqual([path, 405, "method-not-allowed"]);
				expect(headers.allow?.split(", ").sort()).toEqual([...known].sort());
			}
		}
	});
});

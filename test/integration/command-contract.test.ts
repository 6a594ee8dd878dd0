/**
 * The commands against their contract: every command stands in the table of outputs and in the docs, and what it
 * prints with --json is that and nothing else. The real controller with a fake agent, and a local channel of our own.
 */
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { makeLocalHandlers } from "../../agent/local-handlers.ts";
import { allCommands, readCommandTree } from "../../command-line/command-tree.ts";
import { makeProgram } from "../../command-line/run-command-line.ts";
import { type CommandName, commandErrorSchema, commandOutputs } from "../../contracts/command-output.ts";
import { type ErrorCode, errorCatalogue, StillpointError } from "../../contracts/errors.ts";
import { type AgentStatus, type ExtensionInfo, localCalls } from "../../contracts/local-calls.ts";
import type { Order } from "../../contracts/order.ts";
import { routeTable } from "../../controller/api/route-table.ts";
import { type LocalHandlers, serveLocalChannel } from "../../platform/local-channel.ts";
import { exchange, fakeMachine } from "../fakes/fake-enrolment.ts";
import { makeFakeReport } from "../fakes/fake-report.ts";
import { commandOfRoute, watchAskedRoutes } from "../fixtures/asked-routes.ts";
import { addFakeAgent, type ControllerRun, makeImage, startController } from "../fixtures/controller-run.ts";
import { expectDocument } from "../fixtures/expect-document.ts";
import { memoryContext, runInMemory } from "../fixtures/memory-context.ts";
import { poll } from "../fixtures/poll.ts";

const isRoot = process.getuid?.() === 0;
const exercised = new Set<string>();
const ordered: Order[] = [];
const stack = new AsyncDisposableStack();
const routes = stack.use(watchAskedRoutes());
let folder: string;
let runDir: string;
let controller: ControllerRun;

const jobId = "night-1";
const prepareLimit = ["--prepare-limit-ms", "600000"];
const status: AgentStatus = {
	schemaVersion: 1,
	version: "0",
	pid: 1,
	hostname: "h",
	startedAt: "2026-01-01T00:00:00.000Z",
	link: { enrolled: true, connected: true, unsentReports: 0, controller: "https://c", agentId: "a" },
	extensions: [{ name: "Acme", version: "1.0", state: "Enabled" }],
	frozen: [{ mountPoint: "/srv", state: "frozen" }],
	lastJobs: [],
	protection: {
		state: "degraded",
		why: [{ code: "last-job-failed", detail: "stuck" }],
		lastGood: { jobId, startedAt: "2026-01-01T00:00:00.000Z", level: "crash" },
		wanted: { level: "crash", maxAgeMs: null },
	},
};
const extension: ExtensionInfo = {
	name: "Acme",
	version: "1.0",
	state: "Enabled",
	sequenceNumber: 1,
	status: "success",
	health: "ok",
	processes: [],
	restarts: 0,
	limitsNotEnforced: [],
};

beforeAll(async () => {
	folder = mkdtempSync("/var/lib/stillpoint-test-contract-");
	runDir = join(folder, "run");
	mkdirSync(runDir, { mode: 0o700 });
	stack.defer(() => rmSync(folder, { recursive: true, force: true }));
	const none = () => Promise.reject(new StillpointError("not-found", "not in this test"));
	const handlers = {
		...(Object.fromEntries(Object.keys(localCalls).map((name) => [name, none])) as unknown as LocalHandlers),
		"agent.status": () => Promise.resolve(status),
		"job.list": () =>
			Promise.resolve({
				jobs: [{ jobId, phase: "done" as const, requested: "crash" as const, startedAt: status.startedAt }],
			}),
		"job.report": () =>
			Promise.resolve({ report: makeFakeReport({ jobId, level: "crash", acceptLevel: "crash" }, "crash") }),
		"job.order": ({ order }) => {
			ordered.push(order);
			return Promise.resolve({
				type: "accepted" as const,
				jobId,
				repeated: true,
				report: makeFakeReport({ jobId, level: "crash", acceptLevel: "crash" }, "crash"),
			});
		},
		"extensions.list": () => Promise.resolve({ extensions: [extension] }),
		"extensions.apply": () => Promise.resolve({ extensions: [extension] }),
	} as LocalHandlers;
	const stop = new AbortController();
	const socketPath = join(runDir, "agent.sock");
	stack.use(await serveLocalChannel({ socketPath, handlers, isFrozen: () => false, signal: stop.signal }));
	controller = stack.use(await startController(join(folder, "controller")));
});
afterAll(() => stack.disposeAsync());

/** Runs it with --json: one document, which is what the table says, and nothing on stderr. */
async function run(
	name: CommandName,
	words: readonly string[] = [],
	statuses: readonly number[] = [0],
): Promise<unknown> {
	const { stdout, stderr, status } = await routes.run(name, () =>
		runInMemory([...name.split(" "), ...words, "--json"]),
	);
	expect([name, stderr, statuses.includes(status) ? "expected" : `status ${status}: ${stdout}`]).toEqual([
		name,
		"",
		"expected",
	]);
	check(name, stdout);
	return JSON.parse(stdout);
}

function check(name: CommandName, stdout: string): void {
	expectDocument(name, stdout);
	exercised.add(name);
}

const local = () => ["--run-dir", runDir];
const here = () => ["--state-dir", join(folder, "controller")];

describe("every command prints what its contract says", () => {
	test("on the machine", async () => {
		await run("status", local(), [3]);
		await run("jobs", local());
		await run("report", local());
		await run("snapshot", ["--disk", "loop9999", "--level", "crash", "--accept", "crash", ...prepareLimit, ...local()]);
		expect(ordered).toMatchObject([{ prepareLimitMs: 600_000 }]);
		await run("extensions list", local());
		await run("extensions show", ["Acme", ...local()]);
		await run("extensions apply", local());
		await run("explain", ["foreign-freeze"]);
		await run("explain", ["3"]);
		await run("completion", ["fish"]);
	});

	test.skipIf(!isRoot)("for root on the machine", async () => {
		const config = join(folder, "agent.json");
		const scripts = join(folder, "scripts.d");
		mkdirSync(scripts, { mode: 0o755 });
		writeFileSync(join(scripts, "bad.json"), "{}", { mode: 0o600 });
		const none = { azureFolder: null, qemuHookFolders: [], vmwareHookFolders: [] };
		writeFileSync(
			config,
			JSON.stringify({ version: 1, scriptsFolder: scripts, otherScripts: none, tempDisks: ["sdb"] }),
		);
		chmodSync(config, 0o600);
		await run("thaw", local());
		await run("config show", ["--config", config]);
		await run("config check", [config]);
		writeFileSync(join(folder, "bad.json"), '{"version":1,"holdLimitMs":1}');
		await run("config check", [join(folder, "bad.json")], [78]);
		await run("scripts list", ["--config", config]);
		await run("scripts check", ["--config", config], [3]);
		const { token } = await controller.client.createToken();
		const enrolled = ["--config", config, "--state-dir", join(folder, "agent"), "--run-dir", join(folder, "none")];
		await run("agent enrol", ["--controller", controller.info.url, "--token", token, ...enrolled]);
	});

	test("of the controller", async () => {
		const stop = new AbortController();
		const events = memoryContext({ stopping: stop.signal });
		const watching = routes.run("controller events", () =>
			runInMemory(["controller", "events", "--json", ...here()], events.context),
		);
		await poll(() => events.printed.stdout).toContain('"type":"state"');
		const image = await makeImage(join(folder, "a.img"), 1024 * 1024, [{ offset: 0, length: 4096 }]);
		await using agent = await addFakeAgent(controller, { vda: image }, { answers: { status } });
		await run("controller token", here());
		await run("controller agents list", here());
		await run("controller agents show", [agent.agentId, ...here()]);
		await run("controller agents status", [agent.agentId, ...here()]);
		await run("controller agents inventory", [agent.agentId, ...here()]);
		await run("controller agents map", [agent.agentId, `vda=${image}`, ...here()]);
		const order = ["--level", "file-system", "--accept", "crash", "--job-id", jobId, ...prepareLimit];
		const job = (await run("controller snapshot", [agent.agentId, ...order, ...here()])) as { recoveryPointId: string };
		const told = agent.heard.find((message) => message.type === "order");
		expect(told).toMatchObject({ order: { prepareLimitMs: 600_000 } });
		await run("controller jobs", here());
		await run("controller jobs", [jobId, ...here()]);
		await run("controller jobs", [jobId, "--follow", ...here()]);
		await run("controller cancel", [jobId, ...here()]);
		await run("controller recovery-points", here());
		await run("controller recovery-points", [job.recoveryPointId, ...here()]);
		await run("controller verify", [job.recoveryPointId, ...here()], [0, 3]);
		await run("controller verify", [job.recoveryPointId, "--latest", ...here()], [0, 3]);
		await run("controller credentials add", ["vera", "--out", join(folder, "vera"), ...here()]);
		await run("controller credentials list", here());
		await run("controller credentials revoke", ["vera", ...here()]);
		await run("controller audit", here());
		await run("controller api-document", here());
		const body = JSON.stringify({ machine: fakeMachine, reason: "a copy" });
		const { url } = controller.info;
		const { ca } = controller.access;
		const request = JSON.parse((await exchange(`${url}/v1/enrolment-requests`, { ca, method: "POST", body })).text);
		await run("controller enrolment-requests list", here());
		await run("controller enrolment-requests remove", [request.id, ...here()]);
		await run("controller agents revoke", [agent.agentId, ...here()]);
		await run("controller agents remove", [agent.agentId, ...here()]);
		await poll(() => events.printed.stdout).toContain('"connected":false');
		stop.abort();
		await watching;
		for (const line of events.printed.stdout.trimEnd().split("\n")) check("controller events", `${line}\n`);
	});

	test.each([
		["a preparation longer than an order may have", ["snapshot", "--prepare-limit-ms", "3600001"], local],
		["one shorter than that", ["controller", "snapshot", "a", "--prepare-limit-ms", "999"], here],
		["to follow no job", ["controller", "jobs", "--follow"], here],
	])("%s is a usage error", async (_what, words, where) => {
		const { stdout } = await runInMemory([...words, ...where(), "--json"]);
		expect(JSON.parse(stdout).error.code).toBe("usage-invalid");
	});

	test("and every one of them was run here, but those that other tests run", () => {
		const elsewhere = [
			"agent run",
			"guard run",
			"check",
			"diagnose",
			"extensions new",
			"extensions test",
			"controller run",
			...(isRoot ? [] : ["agent enrol", "thaw", "config show", "config check", "scripts list", "scripts check"]),
		];
		expect(
			Object.keys(commandOutputs)
				.filter((name) => !exercised.has(name))
				.sort(),
		).toEqual(elsewhere.sort());
	});
});

describe("server, client, command line and docs", () => {
	const root = readCommandTree(
		makeProgram(memoryContext().context, async () => {}),
		[],
	);
	const leaves = allCommands(root).filter(({ children }) => children.length === 0);

	test("know the same commands, and each takes --json", () => {
		expect(leaves.map(({ path }) => path).sort()).toEqual(Object.keys(commandOutputs).sort());
		expect(leaves.filter(({ options }) => !options.some(({ names }) => names.includes("--json")))).toEqual([]);
		const page = readFileSync(join(import.meta.dirname, "../../docs/command-line.md"), "utf8");
		expect(leaves.filter(({ path }) => !page.includes(`\n## stillpoint ${path}\n`))).toEqual([]);
	});

	test("know the same local calls, and each is documented with what it needs", () => {
		const given = {} as Parameters<typeof makeLocalHandlers>[0];
		expect(Object.keys(makeLocalHandlers(given)).sort()).toEqual(Object.keys(localCalls).sort());
		const page = readFileSync(join(import.meta.dirname, "../../docs/local-calls.md"), "utf8");
		for (const [name, { needs }] of Object.entries(localCalls)) expect(page).toContain(`| \`${name}\` | ${needs} |`);
	});

	test("every error is one document, whatever the command", async () => {
		const wrong = leaves.map(({ path }) => [...path.split(" "), "--frobnicate", "--json"]);
		const nowhere = ["status", "jobs", "report", "extensions apply"].map((path) => [
			...path.split(" "),
			...["--json", "--run-dir", join(folder, "none")],
		]);
		const found = await Promise.all([...wrong, ...nowhere].map((words) => runInMemory(words)));
		for (const { stdout, stderr, status } of found) {
			const printed = JSON.parse(stdout);
			expect([printed.error?.code, stderr]).toEqual([expect.stringMatching(/^(usage-invalid|agent-unreachable)$/), ""]);
			expect(commandErrorSchema.parse(printed)).toEqual(printed);
			expect(status).toBe(errorCatalogue[printed.error.code as ErrorCode].exit);
		}
	});

	test("know the same routes: every one is asked for by its command, and a command of the controller by each", () => {
		expect(Object.keys(commandOfRoute).sort()).toEqual(routeTable.map(({ id }) => id).sort());
		const using = new Set<string>(Object.values(commandOfRoute));
		const unused = leaves.filter(({ path }) => path.startsWith("controller ") && !using.has(path));
		expect(unused.map(({ path }) => path)).toEqual(["controller run"]);
		const unseen = Object.entries(commandOfRoute).filter(([id, command]) => !routes.asked.has(`${id} by ${command}`));
		expect(unseen.map(([id]) => id)).toEqual([...(isRoot ? [] : ["enrol"]), "requestEnrolment"]);
	});

	test("a field that no schema knows is found", () => {
		const printed = { ...status, invented: 1 };
		expect(() => check("status", `${JSON.stringify(printed)}\n`)).toThrow();
	});
});

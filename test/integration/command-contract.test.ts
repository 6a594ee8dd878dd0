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
import { type LocalHandlers, serveLocalChannel } from "../../platform/local-channel.ts";
import { makeFakeReport } from "../fakes/fake-report.ts";
import { addFakeAgent, type ControllerRun, makeImage, startController } from "../fixtures/controller-run.ts";
import { memoryContext, runInMemory } from "../fixtures/memory-context.ts";
import { poll } from "../fixtures/poll.ts";

const isRoot = process.getuid?.() === 0;
const exercised = new Set<string>();
const stack = new AsyncDisposableStack();
let folder: string;
let runDir: string;
let controller: ControllerRun;

const jobId = "night-1";
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
		"job.order": () =>
			Promise.resolve({
				type: "accepted" as const,
				jobId,
				repeated: true,
				report: makeFakeReport({ jobId, level: "crash", acceptLevel: "crash" }, "crash"),
			}),
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
	const { stdout, stderr, status } = await runInMemory([...name.split(" "), ...words, "--json"]);
	expect([name, stderr, statuses.includes(status) ? "expected" : `status ${status}: ${stdout}`]).toEqual([
		name,
		"",
		"expected",
	]);
	check(name, stdout);
	return JSON.parse(stdout);
}

function check(name: CommandName, stdout: string): void {
	expect(stdout.split("\n")).toHaveLength(2);
	const printed = JSON.parse(stdout);
	expect(Object.keys(printed)[0]).toBe("schemaVersion");
	// What the schema does not know is dropped by it: nothing may be.
	expect(commandOutputs[name].parse(printed)).toEqual(printed);
	exercised.add(name);
}

const local = () => ["--run-dir", runDir];
const here = () => ["--state-dir", join(folder, "controller")];

describe("every command prints what its contract says", () => {
	test("on the machine", async () => {
		await run("status", local(), [3]);
		await run("jobs", local());
		await run("report", local());
		await run("snapshot", ["--disk", "loop9999", "--level", "crash", "--accept", "crash", ...local()]);
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
	});

	test("of the controller", async () => {
		const stop = new AbortController();
		const events = memoryContext({ stopping: stop.signal });
		const watching = runInMemory(["controller", "events", "--json", ...here()], events.context);
		await poll(() => events.printed.stdout).toContain('"type":"state"');
		const image = await makeImage(join(folder, "a.img"), 1024 * 1024, [{ offset: 0, length: 4096 }]);
		await using agent = await addFakeAgent(controller, { vda: image });
		await run("controller token", here());
		await run("controller agents list", here());
		await run("controller agents map", [agent.agentId, `vda=${image}`, ...here()]);
		const order = ["--level", "file-system", "--accept", "crash", "--job-id", jobId];
		const job = (await run("controller snapshot", [agent.agentId, ...order, ...here()])) as { recoveryPointId: string };
		await run("controller jobs", here());
		await run("controller jobs", [jobId, ...here()]);
		await run("controller recovery-points", here());
		await run("controller verify", [job.recoveryPointId, ...here()], [0, 3]);
		await run("controller credentials add", ["vera", "--out", join(folder, "vera"), ...here()]);
		await run("controller credentials list", here());
		await run("controller credentials revoke", ["vera", ...here()]);
		await run("controller audit", here());
		await run("controller enrolment-requests list", here());
		await run("controller agents revoke", [agent.agentId, ...here()]);
		await run("controller agents remove", [agent.agentId, ...here()]);
		await poll(() => events.printed.stdout).toContain('"connected":false');
		stop.abort();
		await watching;
		for (const line of events.printed.stdout.trimEnd().split("\n")) check("controller events", `${line}\n`);
	});

	test("and every one of them was run here, but those that other tests run", () => {
		const elsewhere = [
			"agent run",
			"agent enrol",
			"check",
			"diagnose",
			"extensions new",
			"extensions test",
			"controller run",
			"controller cancel",
			"controller agents status",
			"controller agents inventory",
			"controller enrolment-requests remove",
			...(isRoot ? [] : ["thaw", "config show", "config check", "scripts list", "scripts check"]),
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

	test("a field that no schema knows is found", () => {
		const printed = { ...status, invented: 1 };
		expect(() => check("status", `${JSON.stringify(printed)}\n`)).toThrow();
	});
});

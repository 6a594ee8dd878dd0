/** The readers' socket: who may ask there, what is told, and what a hostile reader can do. */
import { execFile } from "node:child_process";
import { chmodSync, chownSync, lstatSync, mkdirSync, mkdtempSync, rmSync, statSync } from "node:fs";
import { connect as connectSocket, type Socket } from "node:net";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import { execa } from "execa";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Log } from "../../agent/log.ts";
import { openReadersChannel } from "../../agent/readers-channel.ts";
import { StillpointError } from "../../contracts/errors.ts";
import { localCalls, readersSocketPath } from "../../contracts/local-calls.ts";
import { connectLocalChannel, type LocalHandlers } from "../../platform/local-channel.ts";
import { makeFakeReport } from "../fakes/fake-report.ts";
import { type AgentProcess, makeAgentFolders, startAgent } from "../fixtures/agent-process.ts";
import { poll } from "../fixtures/poll.ts";
import { requireTools } from "../fixtures/required-tools.ts";

const missing = requireTools("root", "python3", "setpriv");
/** A group of nobody's; the kernel asks for no name. */
const gid = 64_999;
const nobody = 65_534;
const entry = join(import.meta.dirname, "../../command-line/stillpoint.ts");

/** One call as somebody else: prints the answer's frame, or the name of the error. */
const program = `
import os, socket, sys
path, groups, frame = sys.argv[1], [int(g) for g in sys.argv[2].split(",") if g], sys.argv[3]
s = socket.socket(socket.AF_UNIX)
os.setgroups(groups); os.setgid(${nobody}); os.setuid(${nobody})
s.settimeout(10)
try:
    s.connect(path)
    s.sendall(frame.encode() + b"\\f")
    said = b""
    while not said.endswith(b"\\f"):
        more = s.recv(65536)
        if not more: break
        said += more
    print(said.decode().strip("\\f"))
except OSError as e:
    print(type(e).__name__)
`;

async function askAsNobody(socketPath: string, groups: readonly number[], name: string, params: unknown = {}) {
	const frame = JSON.stringify({ type: "call", data: { protocol: 1, id: 1, name, params, limitMs: 5000 } });
	const args = ["-c", program, socketPath, groups.join(","), frame];
	const { stdout } = await promisify(execFile)("python3", args, { timeout: 20_000 });
	const said = stdout.trim();
	return said.startsWith("{") ? JSON.parse(said).data : said;
}

function openSockets(socketPath: string, count: number): Promise<Socket[]> {
	const opened = Array.from({ length: count }, async () => {
		const socket = connectSocket({ path: socketPath });
		socket.on("error", () => {});
		await new Promise((resolve) => socket.once("connect", resolve));
		return socket;
	});
	return Promise.all(opened);
}

describe.skipIf(missing)(`readers${missing ? `: ${missing}` : ""}`, () => {
	const stack = new AsyncDisposableStack();
	let runDir: string;
	let agent: AgentProcess;

	beforeAll(async () => {
		const folders = stack.use(makeAgentFolders());
		runDir = folders.flags.runDir;
		// The fixture's own folder is closed to others, as /run is not.
		chmodSync(dirname(runDir), 0o755);
		folders.writeConfig({ extensions: { installFrom: [folders.packageFolder] }, readersGroup: String(gid) });
		agent = await startAgent(folders);
		stack.use(agent);
	});
	afterAll(() => stack.disposeAsync());

	const answers = async () => {
		await using client = await agent.connect();
		expect((await client.call("agent.status", {})).pid).toBe(agent.pid);
	};

	test("a member of the group is told, and can order nothing; others and the run folder stay outside", async () => {
		const path = readersSocketPath(runDir);
		const asMember = (name: string, params?: unknown) => askAsNobody(path, [gid], name, params);
		const [status, jobs, order, reload, stranger, inside] = await Promise.all([
			asMember("agent.status"),
			asMember("job.list", { limit: 5 }),
			asMember("job.order", {
				order: { jobId: "x", level: "crash", acceptLevel: "crash", disks: { include: ["loop9999"] } },
			}),
			asMember("link.reload"),
			askAsNobody(path, [], "agent.status"),
			askAsNobody(join(runDir, "agent.sock"), [gid], "agent.status"),
		]);
		expect(status.result).toMatchObject({ pid: agent.pid, protection: { state: "unprotected" } });
		expect(jobs.result).toEqual({ jobs: [] });
		for (const refused of [order, reload])
			expect(refused.error).toMatchObject({ code: "not-allowed", message: expect.stringContaining("needs root") });
		expect([stranger, inside]).toEqual(["PermissionError", "PermissionError"]);
		expect(statSync(runDir).mode & 0o777).toBe(0o700);
		const folder = statSync(dirname(path));
		expect([folder.mode & 0o777, folder.uid, folder.gid]).toEqual([0o750, 0, gid]);
	});

	test("every call that needs write is refused there, by the table", async () => {
		await using client = await connectLocalChannel({
			socketPath: readersSocketPath(runDir),
			connectLimitMs: 5_000,
			isShared: true,
		});
		const writing = Object.entries(localCalls).filter(([, { needs }]) => needs !== "read");
		expect(writing.length).toBeGreaterThan(5);
		const fitting: Record<string, unknown> = {
			"job.order": { order: { jobId: "x", level: "crash", acceptLevel: "crash", disks: { include: ["loop9999"] } } },
			"job.command": { command: { type: "cancel", jobId: "x", code: "cancelled" } },
			"extension.attach": { token: "x", jobId: "x" },
			"extension.event": { token: "x", event: {} },
		};
		for (const [name] of writing)
			await expect(client.call(name as "link.reload", (fitting[name] ?? {}) as never)).rejects.toMatchObject({
				code: "not-allowed",
			});
		expect((await client.call("extensions.list", {})).extensions.length).toBeGreaterThan(0);
	});

	test.each([
		"null\f",
		"hello\f",
		'{"type":"error","data":{}}\f',
		'{"type":"__proto__","data":{}}\f',
		'{"type":"call"}\f',
	])("%j ends at most that connection", async (frame) => {
		const [socket] = await openSockets(readersSocketPath(runDir), 1);
		socket?.write(frame);
		await answers();
		socket?.destroy();
	});

	test("a frame that is too large, many connections and many calls at once leave the agent answering", async () => {
		const path = readersSocketPath(runDir);
		const [large] = await openSockets(path, 1);
		large?.write("x".repeat(1024 * 1024 + 1));
		await poll(() => large?.destroyed).toBe(true);
		const many = await openSockets(path, 30);
		await poll(() => many.filter((one) => !one.destroyed).length).toBe(8);
		await answers();
		const left = many.find((one) => !one.destroyed) as Socket;
		let said = "";
		left.setEncoding("utf8").on("data", (text: string) => {
			said += text;
		});
		const call = { protocol: 1, name: "agent.inventory", params: {}, limitMs: 5000 };
		for (let id = 0; id < 50; id += 1) left.write(`${JSON.stringify({ type: "call", data: { ...call, id } })}\f`);
		await poll(() => said.split("\f").length - 1).toBe(50);
		expect(said.match(/rate-limited/g)?.length).toBe(46);
		for (const one of many) one.destroy();
		await poll(() => askAsNobody(path, [gid], "job.list")).toMatchObject({ result: { jobs: [] } });
	});

	test("nobody keeps others out by being there: who asks nothing goes for who comes", async () => {
		const path = readersSocketPath(runDir);
		const hogs = await openSockets(path, 8);
		await poll(() => hogs.filter((one) => !one.destroyed).length).toBe(8);
		const answers = await Promise.all([1, 2, 3].map(() => askAsNobody(path, [gid], "job.list")));
		for (const one of answers) expect(one).toMatchObject({ result: { jobs: [] } });
		await poll(() => hogs[0]?.destroyed).toBe(true);
		expect(hogs.at(-1)?.destroyed).toBe(false);
		for (const one of hogs) one.destroy();
	});

	test("the command line uses it by itself, and a refusal says how to get in", async ({ skip }) => {
		const as = (groups: string, ...words: string[]) =>
			execa(
				"setpriv",
				[`--reuid=${nobody}`, `--regid=${nobody}`, groups, process.execPath, entry, ...words, "--run-dir", runDir],
				{ reject: false, timeout: 20_000, stdin: "ignore" },
			);
		const [status, closed, order] = await Promise.all([
			as(`--groups=${gid}`, "status", "--json"),
			as("--clear-groups", "status"),
			as(`--groups=${gid}`, "snapshot", "--disk", "loop9999"),
		]);
		skip(/Permission denied|EACCES/.test(status.stderr), "another user cannot read this checkout, or its Node");
		expect([JSON.parse(status.stdout).pid, status.exitCode]).toEqual([agent.pid, 3]);
		expect([closed.exitCode, closed.stderr]).toEqual([
			5,
			expect.stringMatching(/sudo stillpoint status.*readersGroup/),
		]);
		expect([order.exitCode, order.stderr]).toEqual([5, expect.stringContaining("sudo stillpoint snapshot")]);
	});
});

describe.skipIf(process.getuid?.() !== 0)("a readers' channel", () => {
	let root: string;
	beforeAll(() => {
		root = mkdtempSync("/dev/shm/stillpoint-test-readers-");
	});
	afterAll(() => rmSync(root, { recursive: true, force: true }));

	const none = () => Promise.reject(new StillpointError("not-found", "not in this test"));
	const handlers = {
		...(Object.fromEntries(Object.keys(localCalls).map((name) => [name, none])) as unknown as LocalHandlers),
		"agent.inventory": () => Promise.resolve({}),
		"job.list": () => Promise.resolve({ jobs: [] }),
		"job.report": () => {
			const report = makeFakeReport({ jobId: "one", level: "application", acceptLevel: "crash" }, "crash");
			const script = { name: "db", phase: "pre" as const, exitCode: 0, timedOut: false, durationMs: 1 };
			return Promise.resolve({ report: { ...report, scripts: [{ ...script, outputTail: "password=secret" }] } });
		},
	} as LocalHandlers;

	async function open(name: string, group: string, isFrozen = () => false) {
		const warnings: unknown[] = [];
		const log = { warn: (message: string, fields: unknown) => void warnings.push([message, fields]) } as unknown as Log;
		const stop = new AbortController();
		const runDir = join(root, name);
		const channel = await openReadersChannel({ runDir, group, handlers, isFrozen, log, signal: stop.signal });
		return { channel, warnings, socketPath: readersSocketPath(runDir) };
	}

	test("tells while frozen what comes from memory, and never what scripts printed", async () => {
		const { channel, socketPath, warnings } = await open("frozen", String(gid), () => true);
		await using _ = channel;
		await using client = await connectLocalChannel({ socketPath, connectLimitMs: 5_000, isShared: true });
		expect(await client.call("job.list", {})).toEqual({ jobs: [] });
		await expect(client.call("agent.inventory", {})).rejects.toMatchObject({ code: "job-running" });
		const { report } = await client.call("job.report", {});
		expect([report.scripts[0]?.name, report.scripts[0]?.outputTail]).toEqual(["db", ""]);
		expect(warnings).toEqual([]);
	});

	test("of a group that is not there is not opened, and said in the log", async () => {
		const { warnings, socketPath } = await open("no-group", "stillpoint-no-such-group");
		expect(warnings).toEqual([[expect.stringContaining("not open"), expect.anything()]]);
		expect(lstatSync(socketPath, { throwIfNoEntry: false })).toBeUndefined();
	});

	test("goes by a group's name, too", async () => {
		const { channel, warnings, socketPath } = await open("by-name", "nogroup");
		await using _ = channel;
		expect([warnings, statSync(socketPath).gid, statSync(socketPath).mode & 0o777]).toEqual([[], 65_534, 0o660]);
	});

	test.each([
		["belongs to somebody else", (path: string) => chownSync(path, nobody, nobody)],
		["others may write to", (path: string) => chmodSync(path, 0o777)],
	])("in a folder that %s is not opened", async (_what, spoil) => {
		const path = dirname(readersSocketPath(join(root, `spoilt-${_what.length}`)));
		mkdirSync(path);
		spoil(path);
		const { warnings } = await open(`spoilt-${_what.length}`, String(gid));
		expect(warnings).toHaveLength(1);
	});
});

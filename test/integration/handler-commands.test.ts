import { mkdirSync, readFileSync, rmSync, statSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { execa } from "execa";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { appendCommandLog } from "../../agent/extension-host/command-log.ts";
import { dropSlot, findSlot } from "../../agent/extension-host/command-slot.ts";
import { enableUnit } from "../../agent/extension-host/enable-unit.ts";
import { endHandlerProcesses, findHandlerProcesses } from "../../agent/extension-host/handler-processes.ts";
import type { HostLimits } from "../../agent/extension-host/host-ports.ts";
import { requireSuccess, runHandlerCommand } from "../../agent/extension-host/run-handler-command.ts";
import { makeUnit, unitGoals } from "../../agent/extension-host/unit.ts";
import { watchUnit } from "../../agent/extension-host/watch-unit.ts";
import { type CommandBench, commandLimits, makeCommandBench } from "../fixtures/command-bench.ts";
import { poll } from "../fixtures/poll.ts";
import { requireTools } from "../fixtures/required-tools.ts";

const missing = requireTools("root", "unshare", "mount", "umount");

describe.skipIf(missing)(`a command of a foreign handler${missing ? `: ${missing}` : ""}`, () => {
	let bench: CommandBench;
	let root: string;
	let stack: AsyncDisposableStack;
	let handler: CommandBench["handler"];

	beforeEach(() => {
		bench = makeCommandBench();
		({ root, stack, handler } = bench);
	});
	afterEach(() => bench[Symbol.asyncDispose]());

	test("that passes its limit is ended with all that it started: other session, group, empty environment", async () => {
		const escapes = [
			"setsid sleep 600 & ",
			"(setsid setsid sleep 600 &) ; ",
			"env -i setsid sleep 600 & ",
			"sleep 600 & sleep 600",
		];
		const one = handler(escapes.join(""), commandLimits(1_000));
		const running = one.run();
		await poll(() => findHandlerProcesses(one).length).toBeGreaterThanOrEqual(5);
		const outcome = await running;
		expect(outcome).toMatchObject({ timedOut: true });
		expect(outcome.exitStatus).toBeUndefined();
		expect(findHandlerProcesses(one)).toEqual([]);
	});

	test("that ends with success leaves its daemon, one that fails leaves nothing", async () => {
		const good = handler("setsid sleep 600 & echo up");
		expect(await good.run()).toMatchObject({ exitStatus: 0, timedOut: false, outputTail: "up\n" });
		expect(findHandlerProcesses(good)).toHaveLength(1);
		await endHandlerProcesses(good);
		await dropSlot(good.place.private);
		const bad = handler("env -i setsid sleep 600 & exit 126");
		expect(await bad.run()).toMatchObject({ exitStatus: 126 });
		expect(findHandlerProcesses(bad)).toEqual([]);
	});

	test("has Azure's variables and nothing of the agent's", async () => {
		process.env["AZURE_GUEST_AGENT_EXTENSION_VERSION"] = "9.9";
		process.env["STILLPOINT_TEST_LEAK"] = "leak";
		stack.defer(() => void delete process.env["AZURE_GUEST_AGENT_EXTENSION_VERSION"]);
		stack.defer(() => void delete process.env["STILLPOINT_TEST_LEAK"]);
		const { outputTail } = await handler("env; pwd").run();
		expect(outputTail).toContain("AZURE_GUEST_AGENT_EXTENSION_VERSION=1.0\n");
		expect(outputTail).toContain("AZURE_GUEST_AGENT_EXTENSION_PATH=/var/lib/waagent/Acme.Test-1.0\n");
		expect(outputTail).toContain("ConfigSequenceNumber=3\n");
		expect(outputTail).toMatch(/\/var\/lib\/waagent\/Acme\.Test-1\.0\n$/);
		expect(outputTail).not.toContain("leak");
	});

	test("does not see the agent's state; what it mounts stays its own, what the host mounts comes in", async () => {
		const shared = join(root, "shared");
		mkdirSync(shared);
		await execa("mount", ["-t", "tmpfs", "tmpfs", shared]);
		stack.defer(async () => void (await execa("umount", ["-R", shared])));
		await execa("mount", ["--make-shared", shared]);
		for (const name of ["in", "out"]) mkdirSync(join(shared, name));
		const one = handler(
			[
				`mount -t tmpfs tmpfs ${shared}/out`,
				`touch ${shared}/out/mine ${shared}/ready`,
				`for i in $(seq 100); do [ -e ${shared}/in/hosts ] && break; sleep 0.1; done`,
				`ls ${shared}/in; ls -A ${root}/state`,
			].join("; "),
		);
		const running = one.run();
		await poll(() => statSync(join(shared, "ready"), { throwIfNoEntry: false }) !== undefined).toBe(true);
		expect(statSync(join(shared, "out/mine"), { throwIfNoEntry: false })).toBeUndefined();
		await execa("mount", ["-t", "tmpfs", "tmpfs", join(shared, "in")]);
		writeFileSync(join(shared, "in/hosts"), "");
		expect(await running).toMatchObject({ exitStatus: 0, outputTail: "hosts\n" });
	});

	test("is not run where there is no private mount namespace, and that is said", async () => {
		const one = handler("echo was run");
		const nowhere = { ...one.ports, folders: { ...one.ports.folders, stateDir: join(root, "nowhere") } };
		const run = { place: one.place, what: "enable", command: "echo was run", sequenceNumber: 3 } as const;
		const outcome = await runHandlerCommand(run, nowhere);
		expect(outcome.fault).toMatch(/no private mount namespace: mount: .*nowhere/);
		expect(outcome.outputTail).not.toContain("was run");
		expect(() => requireSuccess(run, outcome)).toThrow(/was not run: no private mount namespace/);
		expect(await one.run()).toMatchObject({ exitStatus: 0, outputTail: "was run\n" });
	});

	test("waits for the end of a snapshot before it is started", async () => {
		bench.state.mayStart = false;
		const one = handler("echo run");
		const running = one.run();
		await poll(async () => (await findSlot(one.place.private)) !== undefined).toBe(true);
		expect(findHandlerProcesses(one)).toEqual([]);
		bench.state.mayStart = true;
		expect(await running).toMatchObject({ exitStatus: 0 });
	});

	test("writes its output to CommandExecution.log, which is cut at its head", async () => {
		const one = handler("echo first; exit 3");
		await one.run();
		const path = join(one.place.logFolder, "CommandExecution.log");
		expect(readFileSync(path, "utf8")).toMatch(/enable of Acme\.Test 1\.0: exit status 3, \d+ ms\nfirst\n$/);
		for (let line = 0; line < 40; line += 1) await appendCommandLog(path, `${line} ${"x".repeat(100)}\n`, 2_000);
		const text = readFileSync(path, "utf8");
		expect(text.length).toBeLessThan(2_100);
		expect(text).toMatch(/^\(older lines were cut\)\n\d+ x/);
		expect(text).toMatch(/\n39 x+\n$/);
	});

	describe("and the job that it accepted", () => {
		async function watched(command: string, limits: Partial<HostLimits> = {}, jobLimitMs = 60_000, more = {}) {
			const one = handler(command, limits, more);
			const [goal] = unitGoals("Acme.Test", undefined);
			const unit = makeUnit({ ...goal, jobLimitMs } as NonNullable<typeof goal>);
			const enable = () => enableUnit(unit, one.version, one.ports);
			await enable();
			const stop = new AbortController();
			stack.defer(() => stop.abort());
			const ended = watchUnit(
				{ unit, version: one.version, jobStartedMs: Date.now(), ports: one.ports, enableAgain: enable },
				stop.signal,
			).catch(() => undefined);
			return { ...one, unit, ended };
		}
		const statusOf = (one: { place: { statusFolder: string } }) =>
			JSON.parse(readFileSync(join(one.place.statusFolder, "0.status"), "utf8"))[0].status;

		test("is closed by the host at its deadline, and all its processes are ended", async () => {
			const one = await watched("setsid sleep 600 & exit 0", {}, 400);
			await one.ended;
			expect(one.unit.error?.code).toBe("extension-timeout");
			expect(statusOf(one)).toMatchObject({ status: "error", code: 1011 });
			expect(findHandlerProcesses(one)).toEqual([]);
		});

		test("is closed when its processes are gone without a word; a half-written status is waited for", async () => {
			const gone = await watched("setsid sleep 0.2 & exit 0", { orphanedJobMs: 100 });
			await gone.ended;
			expect(gone.unit.error?.code).toBe("extension-died");
			expect(statusOf(gone)).toMatchObject({ status: "error", formattedMessage: { message: /extension-died/ } });
			rmSync(gone.place.folder, { recursive: true });
			const text = '[{"status":{"status":"success","code":0,"formattedMessage":{"message":"whole"}}}]';
			const half = `f=/var/lib/waagent/Acme.Test-1.0/status/0.status; (printf '%s' '${text.slice(0, 40)}' > $f; sleep 0.6; printf '%s' '${text.slice(40)}' >> $f) &`;
			const late = await watched(half);
			await late.ended;
			expect(late.unit).toMatchObject({ error: undefined, status: { status: "success", message: "whole" } });
		});

		test("that is transitioning and silent is named; a heartbeat tells by its age and its word", async () => {
			const body = '[{"status":{"status":"transitioning","code":0}}]';
			const one = await watched(`echo '${body}' > status/0.status; setsid sleep 600 &`, { silentMs: 200 });
			await poll(() => one.unit.health).toBe("silent");
			const done = '[{"status":{"status":"success","code":0}}]';
			const beat =
				'[{"version":1.0,"heartbeat":{"status":"NotReady","code":1,"formattedMessage":{"message":"no disk"}}}]';
			rmSync(one.place.folder, { recursive: true });
			const two = await watched(
				`echo '${done}' > status/0.status; echo '${beat}' > heartbeat.log; setsid sleep 600 &`,
				{},
				60_000,
				{ reportHeartbeat: true },
			);
			await poll(() => two.unit.heartbeat).toEqual({ state: "notready", message: "no disk" });
			const age = (seconds: number) => {
				const at = Date.now() / 1000 - seconds;
				utimesSync(two.place.heartbeatFile, at, at);
			};
			age(61);
			await poll(() => two.unit.heartbeat?.state).toBe("unknown");
			age(601);
			await poll(() => two.unit.heartbeat?.state).toBe("unresponsive");
		});

		test("left a daemon: its death is noticed again and again, but not while disks may be frozen", async () => {
			const done = '[{"status":{"status":"success","code":0}}]';
			const one = await watched(`echo '${done}' > status/0.status; setsid sleep 600 &`);
			for (const restarts of [1, 2]) {
				await poll(() => one.unit.hasDaemon && one.unit.health === "ok" && one.unit.processes.length === 1).toBe(true);
				if (restarts === 2) bench.state.mayStart = false;
				for (const { pid } of one.unit.processes) process.kill(pid, "SIGKILL");
				if (restarts === 2) {
					await new Promise((resolve) => setTimeout(resolve, 300));
					expect(one.unit.restarts).toBe(1);
					bench.state.mayStart = true;
				}
				await poll(() => one.unit.restarts).toBe(restarts);
				await poll(() => one.unit.health).toBe("ok");
			}
		});
	});
});

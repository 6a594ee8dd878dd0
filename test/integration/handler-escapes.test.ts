import { spawn } from "node:child_process";
import { existsSync, mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { dropSlot, writeSlot } from "../../agent/extension-host/command-slot.ts";
import { endProcessesOf, processesOf } from "../../agent/extension-host/handler.ts";
import {
	commandMark,
	endHandlerProcesses,
	findHandlerProcesses,
	handlerMark,
} from "../../agent/extension-host/handler-processes.ts";
import { type CommandBench, commandLimits, makeCommandBench } from "../fixtures/command-bench.ts";
import { requireTools } from "../fixtures/required-tools.ts";

const missing = requireTools("root", "unshare", "mount", "python3");
/** A namespace of its own, nothing in its environment, no parent that is known. */
const runaway = "(env -i setsid unshare --mount --propagation private setsid sleep 600 &)";

describe.skipIf(missing)(`what a handler's command started${missing ? `: ${missing}` : ""}`, () => {
	let bench: CommandBench;
	beforeEach(() => {
		bench = makeCommandBench();
	});
	afterEach(() => bench[Symbol.asyncDispose]());

	test("is ended with it, from a mount namespace of its own, too; what an earlier one left lives on", async () => {
		const good = bench.handler(`${runaway}; sleep 0.5`);
		expect(await good.run()).toMatchObject({ exitStatus: 0 });
		const left = findHandlerProcesses(good);
		expect(left).toHaveLength(1);
		await dropSlot(good.place.private);
		const bad = bench.handler(`${runaway}; sleep 0.5; exit 3`);
		expect(await bad.run()).toMatchObject({ exitStatus: 3 });
		expect(findHandlerProcesses(good)).toEqual(left);
	});

	test("belongs to its instance, whatever it hides; that of another instance lives on", async () => {
		const one = bench.handler(`${runaway}; sleep 0.5`);
		// The second is run although the first was not taken into account: the agent was killed between them.
		for (const instance of ["web", "db"]) expect(await one.run(instance)).toMatchObject({ exitStatus: 0 });
		expect(findHandlerProcesses(one)).toHaveLength(2);
		await endHandlerProcesses(processesOf(one.place, "web"));
		expect(findHandlerProcesses(one)).toEqual(findHandlerProcesses(processesOf(one.place, "db")));
		expect(findHandlerProcesses(one)).toHaveLength(1);
	});

	test("is found when its first thread has ended and others go on", async () => {
		const text = [
			"import ctypes, threading, time",
			"threading.Thread(target=time.sleep, args=(600,)).start()",
			"ctypes.CDLL(None).syscall(60, 0)",
		];
		const one = bench.handler(`setsid python3 -c '${text.join("\n")}' & sleep 1`);
		expect(await one.run()).toMatchObject({ exitStatus: 0 });
		expect(findHandlerProcesses(one)).toHaveLength(1);
		await endHandlerProcesses(one);
		expect(findHandlerProcesses(one)).toEqual([]);
	});

	test("is asked first, so that it can let go of what it holds, and killed when it does not hear", async () => {
		const holder = `trap 'echo let go >> $PWD/held; exit' TERM; echo ready > $PWD/ready; sleep 600 & wait`;
		const deaf = "trap '' TERM; exec sleep 600";
		const one = bench.handler(
			`setsid sh -c "${holder}" & setsid sh -c "${deaf}" & until [ -e ready ]; do sleep 0.02; done`,
		);
		expect(await one.run()).toMatchObject({ exitStatus: 0 });
		await endProcessesOf(one.place, undefined, one.ports);
		expect(findHandlerProcesses(one)).toEqual([]);
		expect(readFileSync(join(one.place.folder, "held"), "utf8")).toBe("let go\n");
	});

	test("is ended while it forks as fast as it can, into sessions of their own", async () => {
		const bomb = "(trap '' TERM INT HUP; while :; do (env -i setsid sleep 5 &) ; done) & sleep 600";
		const one = bench.handler(bomb, commandLimits(500));
		expect(await one.run()).toMatchObject({ timedOut: true });
		expect(findHandlerProcesses(one)).toEqual([]);
	});

	test("that was going on when the agent was killed is ended at its limit, and that is told, not tried again", async () => {
		const one = bench.handler("echo run; setsid sleep 600", commandLimits(2_000));
		const token = "0123456789abcdef";
		const key = "1.0 enable  3 ";
		const slot = { key, token, bootId: "boot", startedAt: new Date(Date.now() + 60_000).toISOString() };
		mkdirSync(one.place.private.folder, { recursive: true });
		await writeSlot(one.place.private, slot);
		const environment = { [handlerMark]: one.stateView, [commandMark]: token };
		const left = spawn("sleep", ["600"], { env: { ...process.env, ...environment } });
		bench.stack.defer(() => void left.kill("SIGKILL"));
		expect(await one.run()).toMatchObject({ timedOut: true });
		expect(findHandlerProcesses(one)).toEqual([]);
		expect(existsSync(join(one.place.logFolder, "enable.out"))).toBe(false);
	});

	test("is not looked for while disks may be frozen: procfs waits for a process that waits for a disk", async () => {
		const one = bench.handler("setsid sleep 600 &");
		await one.run();
		bench.state.mayStart = false;
		const ending = endProcessesOf(one.place, undefined, one.ports);
		await new Promise((resolve) => setTimeout(resolve, 300));
		expect(findHandlerProcesses(one)).toHaveLength(1);
		bench.state.mayStart = true;
		await ending;
		expect(findHandlerProcesses(one)).toEqual([]);
	});

	test("is nobody else: a process that only shows the handler's folders elsewhere is left alone", async () => {
		const one = bench.handler("echo run");
		await one.run();
		const script = `mount --bind ${one.stateView} /mnt && echo up && exec sleep 600`;
		const words = ["--mount", "--propagation", "private", "sh", "-c", script];
		const other = spawn("unshare", words, { stdio: ["ignore", "pipe", "inherit"] });
		bench.stack.defer(() => void other.kill("SIGKILL"));
		await new Promise((resolve) => other.stdout.once("data", resolve));
		expect(readFileSync(`/proc/${other.pid}/mountinfo`, "utf8")).toContain(".private/Acme.Test/waagent /mnt");
		expect(findHandlerProcesses(one)).toEqual([]);
	});
});

/** A freezer that was killed in the instant of the freeze leaves the kernel's `rcu_expedited` on, and its marker. */
import { execFileSync, spawn } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import winston from "winston";
import { thawEarlierLife } from "../../agent/start-recovery.ts";
import { makeThirdHolder } from "../../agent/third-holder.ts";
import { makeWriteHold } from "../../agent/write-hold.ts";
import { systemClock } from "../../extensions/vm-snapshot-linux/clock.ts";
import { FrozenWindow } from "../../extensions/vm-snapshot-linux/frozen-window.ts";
import { HoldAnswers } from "../../extensions/vm-snapshot-linux/hold-answers.ts";
import type { Freezer } from "../../platform/linux/freezer/freezer-client.ts";
import { findProcessIdentity, findProcessLife } from "../../platform/linux/process-identity.ts";
import { restoreExpedited } from "../../platform/linux/rcu-expedited.ts";
import { runInMemory } from "../fixtures/memory-context.ts";
import { poll } from "../fixtures/poll.ts";
import { startProductGuard } from "../fixtures/product-guard.ts";
import { requireTools } from "../fixtures/required-tools.ts";

const missing =
	process.getuid?.() === 0 && existsSync("/sys/kernel/rcu_expedited")
		? undefined
		: "needs root, and a kernel with rcu_expedited";

/** What the marker says is looked at, and not the switch: other tests freeze beside this one. */
describe.skipIf(missing)(`rcu_expedited of a killed freezer${missing ? `: ${missing}` : ""}`, () => {
	let stack: AsyncDisposableStack;
	let runDir: string;
	let freezes: string;

	beforeEach(() => {
		stack = new AsyncDisposableStack();
		runDir = mkdtempSync("/dev/shm/stillpoint-test-expedited-");
		stack.defer(() => rmSync(runDir, { recursive: true, force: true }));
		freezes = join(runDir, "freezes");
		mkdirSync(freezes);
	});
	afterEach(() => stack.disposeAsync());

	function leaveMarker(): void {
		const gone = Number(execFileSync("sh", ["-c", "echo $$"], { encoding: "utf8" }));
		writeFileSync(join(freezes, `rcu-expedited.${gone}.1`), "");
	}
	const markers = () => readdirSync(freezes).filter((name) => name.startsWith("rcu-expedited"));

	test("is not put back by nobody (negative control)", async () => {
		leaveMarker();
		await poll(() => markers().length).toBe(1);
	});

	test.skipIf(requireTools("python3"))(
		"is put back while a thread of the killed one is still in the kernel",
		async () => {
			// Its main thread has ended, another one has not.
			const ending = "import threading,time,ctypes;threading.Thread(target=lambda:time.sleep(30)).start();";
			const child = spawn("python3", ["-c", `${ending}ctypes.CDLL(None).pthread_exit(0)`], { stdio: "ignore" });
			stack.defer(() => void child.kill("SIGKILL"));
			const identity = findProcessIdentity(child.pid ?? 0) ?? { pid: 0, startTime: "" };
			await poll(() => findProcessLife(identity)).toBe("ending");
			writeFileSync(join(freezes, `rcu-expedited.${identity.pid}.${identity.startTime}`), "");
			expect(restoreExpedited(freezes, join(runDir, "switch"))).toBe("restored");
			expect(markers()).toEqual([]);
		},
	);

	test("is put back by the extension's rescue", async () => {
		leaveMarker();
		const freezer = {
			thawed: Promise.reject(new Error("died")),
			exited: Promise.resolve({ status: null, signal: "SIGKILL", stderrTail: "" }),
			ledgerPath: (jobId: string) => join(freezes, `${jobId}.json`),
			freeze: () => Promise.reject(new Error("died")),
			thaw: () => Promise.reject(new Error("died")),
			kill: () => {},
		} as unknown as Freezer;
		const window = new FrozenWindow({
			jobId: "j",
			freezer,
			folders: [],
			calls: { thaw: () => Promise.resolve("EINVAL") },
			answers: new HoldAnswers(),
			clock: systemClock(),
			onStuck: () => {},
		});
		await expect(window.freeze({ holdLimitMs: 1_000, freezeLimitMs: 1_000, expedited: true })).rejects.toThrow("died");
		await window.thaw();
		expect(markers()).toEqual([]);
	});

	test("is put back by the agent as the third holder", async () => {
		leaveMarker();
		const holder = makeThirdHolder({
			jobId: "j",
			runDir,
			hold: makeWriteHold(),
			log: winston.createLogger({ silent: true }),
			onDeadline: () => {},
			onStuck: () => {},
		});
		await holder.open([]);
		await holder.freezing({ holdLimitMs: 1_000, freezerPid: 2 ** 22 + 1 });
		expect(await holder.rescue("a test", new AbortController().signal)).toBe(true);
		expect(markers()).toEqual([]);
	});

	test("is put back by the agent's next start, before anything else", async () => {
		leaveMarker();
		await thawEarlierLife(runDir, new AbortController().signal);
		expect(markers()).toEqual([]);
	});

	test("is put back by stillpoint thaw", async () => {
		leaveMarker();
		expect((await runInMemory(["thaw", "--run-dir", runDir])).status).toBe(0);
		expect(markers()).toEqual([]);
	});

	test("is put back by the guard, found at its start or later", async () => {
		leaveMarker();
		stack.use(await startProductGuard(runDir));
		await poll(() => markers().length).toBe(0);
		leaveMarker();
		await poll(() => markers().length).toBe(0);
		// Whose process lives puts it back himself.
		writeFileSync(join(freezes, `rcu-expedited.${process.pid}.${startTimeOf(process.pid)}`), "");
		await new Promise((resolve) => setTimeout(resolve, 300));
		expect(markers().length).toBe(1);
	});

	function startTimeOf(pid: number): string {
		const stat = execFileSync("cat", [`/proc/${pid}/stat`], { encoding: "latin1" });
		return stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19] ?? "";
	}
});

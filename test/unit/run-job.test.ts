import { mkdtempSync, rmSync } from "node:fs";
import { afterEach, beforeEach, expect, test } from "vitest";
import type { InstalledExtension } from "../../agent/extension-host/installed-extension.ts";
import type { Log } from "../../agent/log.ts";
import { type JobPorts, startJob } from "../../agent/run-job.ts";
import { makeWriteHold } from "../../agent/write-hold.ts";
import type { ExtensionEvent, SnapshotRequest } from "../../contracts/extension.ts";
import { orderSchema } from "../../contracts/order.ts";
import type { LocalCaller } from "../../platform/local-channel.ts";

/** Greater than every pid of Linux. */
const noProcess = 2 ** 22 + 1;

let runDir: string;
beforeEach(() => {
	runDir = mkdtempSync("/dev/shm/stillpoint-test-run-job-");
});
afterEach(() => rmSync(runDir, { recursive: true, force: true }));

/** The job up to `freezing`, with an extension whose channel takes words or does not. */
async function freezeWith(given: { hears: boolean; freezerPid?: number }) {
	const exited = Promise.withResolvers<{ exitCode: number | null; signal: string | null; outputTail: string }>();
	const started = Promise.withResolvers<void>();
	const silent = () => undefined;
	const hold = makeWriteHold();
	const ports = {
		hold,
		log: { info: silent, warn: silent, error: silent, debug: silent } as unknown as Log,
		runDir,
		stopLimitMs: 1_000,
		startExtension: () => {
			started.resolve();
			return { pid: 1, exited: exited.promise, kill: silent, endInput: silent };
		},
		findStatusReport: silent,
		recover: () => Promise.resolve([]),
		onPhase: silent,
		onSnapshotTold: silent,
		onStuck: silent,
		whenNothingStarts: () => Promise.resolve(),
	} as unknown as JobPorts;
	let token = "";
	const job = startJob({
		order: orderSchema.parse({ jobId: "job-1", level: "crash", acceptLevel: "crash", disks: "all" }),
		asker: { kind: "local", send: silent, closed: new AbortController().signal } as never,
		extension: { name: "X", version: "1" } as InstalledExtension,
		makeRequest: (given) => {
			token = given;
			return { holdLimitMs: 1_000 } as SnapshotRequest;
		},
		ports,
	});
	await started.promise;
	job.attach(token, { notify: () => given.hears, closed: new AbortController().signal } as unknown as LocalCaller);
	const event = (body: Record<string, unknown>) => job.event(token, { jobId: "job-1", ...body } as ExtensionEvent);
	for (const phase of ["preparing", "prepared", "scripts"]) await event({ type: "phase", phase });
	const outcome = await event({
		type: "freezing",
		holdLimitMs: 1_000,
		freezerPid: given.freezerPid ?? noProcess,
	}).catch((error: unknown) => error);
	exited.resolve({ exitCode: 1, signal: null, outputTail: "" });
	return { outcome, report: await job.report, hold };
}

test("an extension that is gone when it should freeze failed; nobody says that the asker went", async () => {
	const { outcome, report, hold } = await freezeWith({ hears: false });
	expect(outcome).toMatchObject({ code: "extension-failed" });
	expect(report).toMatchObject({ error: { code: "extension-failed" } });
	expect(hold.held).toBe(false);
});

test("one that hears freezes (negative control)", async () => {
	expect((await freezeWith({ hears: true })).outcome).toBeUndefined();
});

test("a freezer that is none of the extension's processes is not believed: the agent would end it in need", async () => {
	const { outcome, hold } = await freezeWith({ hears: true, freezerPid: process.pid });
	expect(outcome).toMatchObject({ code: "message-invalid" });
	expect(hold.held).toBe(false);
});

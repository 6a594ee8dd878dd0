import { mkdtempSync, rmSync } from "node:fs";
import { expect, test } from "vitest";
import type { InstalledExtension } from "../../agent/extension-host/installed-extension.ts";
import type { Log } from "../../agent/log.ts";
import { type JobPorts, startJob } from "../../agent/run-job.ts";
import { makeWriteHold } from "../../agent/write-hold.ts";
import type { ExtensionEvent, SnapshotRequest } from "../../contracts/extension.ts";
import type { HoldCommand, HoldEvent } from "../../contracts/hold-protocol.ts";
import { orderSchema } from "../../contracts/order.ts";
import type { LocalCaller } from "../../platform/local-channel.ts";

/** What an extension hears of a command, that said `prepared` so; and what the asker heard of that. */
async function tellAfterPrepared(prepared: { perDisk?: boolean }, command: HoldCommand) {
	const runDir = mkdtempSync("/dev/shm/stillpoint-test-taken-");
	const exited = Promise.withResolvers<{ exitCode: number | null; signal: string | null; outputTail: string }>();
	const started = Promise.withResolvers<void>();
	const silent = () => undefined;
	const heard: unknown[] = [];
	const told: HoldEvent[] = [];
	const ports = {
		hold: makeWriteHold(),
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
		order: orderSchema.parse({ jobId: "job-1", level: "file-system", acceptLevel: "crash", disks: "all" }),
		asker: {
			kind: "local",
			send: (event: HoldEvent) => told.push(event),
			closed: new AbortController().signal,
		} as never,
		extension: { name: "X", version: "1" } as InstalledExtension,
		makeRequest: (given) => {
			token = given;
			return { holdLimitMs: 1_000 } as SnapshotRequest;
		},
		ports,
	});
	await started.promise;
	const notify = (_name: string, params: unknown) => {
		heard.push(params);
		return true;
	};
	job.attach(token, { notify, closed: new AbortController().signal } as unknown as LocalCaller);
	const event = (body: Record<string, unknown>) => job.event(token, { jobId: "job-1", ...body } as ExtensionEvent);
	await event({ type: "phase", phase: "preparing" });
	await event({ type: "prepared", disks: [], holdLimitMs: 1_000, ...prepared });
	job.command(command);
	exited.resolve({ exitCode: 1, signal: null, outputTail: "" });
	await job.report;
	rmSync(runDir, { recursive: true, force: true });
	return { heard, perDisk: told.find((one) => one.type === "prepared")?.perDisk };
}

const taken: HoldCommand = { type: "taken", jobId: "job-1", disk: { name: "vda", ok: true } };
const freeze: HoldCommand = { type: "freeze", jobId: "job-1" };

test("an extension that said perDisk hears of a disk that is taken, and its asker heard that it wants to", async () => {
	expect(await tellAfterPrepared({ perDisk: true }, taken)).toEqual({ heard: [taken], perDisk: true });
});

test.each([{}, { perDisk: false }])("one that said %j, or is older, never hears the word", async (prepared) => {
	expect((await tellAfterPrepared(prepared, taken)).heard).toEqual([]);
	expect((await tellAfterPrepared(prepared, freeze)).heard, "other words (control)").toEqual([freeze]);
});

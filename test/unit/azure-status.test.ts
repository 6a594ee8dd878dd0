import { readFileSync } from "node:fs";
import { mkdtemp, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { errorCodes, StillpointError } from "../../contracts/errors.ts";
import { handlerStatusFileSchema } from "../../contracts/extension.ts";
import { levels } from "../../contracts/level.ts";
import {
	azureCodeOf,
	azureCodes,
	azureLevels,
	codeOfError,
	findScriptFault,
	healthStates,
} from "../../extensions/vm-snapshot-linux/azure/azure-codes.ts";
import {
	composeStatus,
	maxStatusBytes,
	outcomeOf,
	statusFileText,
} from "../../extensions/vm-snapshot-linux/azure/azure-status.ts";
import { guestConfigSchema } from "../../extensions/vm-snapshot-linux/azure/guest-config.ts";
import { renewStatus } from "../../extensions/vm-snapshot-linux/azure/status-files.ts";
import { makeFakeReport } from "../fakes/fake-report.ts";
import { poll } from "../fixtures/poll.ts";

const facts = { taskId: "t", startTicks: "1", machineHash: "h", extensionVersion: "1" };
const page = readFileSync(join(import.meta.dirname, "../../docs/azure.md"), "utf8");

describe("Azure's codes", () => {
	test("there is one, with a name and a health, for every error of ours", () => {
		expect(Object.keys(codeOfError).sort()).toEqual([...errorCodes].sort());
		for (const code of errorCodes) {
			const { name, health } = azureCodes[azureCodeOf({ code })];
			expect(name).not.toBe("");
			expect(healthStates[health]).toBeTypeOf("number");
			expect([0, 1, 3, 4], `${code} is told as a success`).not.toContain(azureCodeOf({ code }));
		}
	});

	test("there is one for every level, and no snapshot is no success", () => {
		expect(Object.keys(azureLevels).sort()).toEqual([...levels].sort());
		expect(azureLevels.none.code).toBe(2);
	});

	test("one that a failure carries counts, and one that is none of Azure's does not", () => {
		expect(azureCodeOf(new StillpointError("prepare-failed", "x", { details: { azureCode: 76 } }))).toBe(76);
		expect(azureCodeOf(new StillpointError("prepare-failed", "x", { details: { azureCode: 77 } }))).toBe(15);
	});

	test("a script that failed after the thaw has the code of the post phase", () => {
		const script = { name: "a", durationMs: 1, outputTail: "", timedOut: false };
		const error = { code: "script-failed", message: "", retryable: true } as const;
		expect(azureCodeOf(error, { scripts: [{ ...script, phase: "post", error }] })).toBe(301);
		expect(azureCodeOf(error, { scripts: [{ ...script, phase: "pre", error }] })).toBe(300);
		expect(azureCodeOf(error)).toBe(300);
	});

	test("a configuration that can't be run has the code of its fault, before that of its kind", () => {
		const about = { message: "", retryable: false, details: { azureCode: 317 } };
		const error = { ...about, code: "script-untrusted" } as const;
		const bad = { name: "azure-script", phase: "pre", durationMs: 0, outputTail: "", timedOut: false, error } as const;
		expect(azureCodeOf({ code: "script-untrusted" }, { scripts: [bad] })).toBe(317);
		expect(azureCodeOf({ code: "script-failed" }, { scripts: [bad] })).toBe(300);
		const strange = { ...bad, error: { ...error, details: { azureCode: 9999 } } };
		expect(azureCodeOf({ code: "script-untrusted" }, { scripts: [strange] })).toBe(306);
	});

	test("the first fault of a script is the health beside a success", () => {
		const script = { name: "a", durationMs: 1, outputTail: "", timedOut: false };
		const error = { code: "script-timeout", message: "", retryable: true } as const;
		const well = { ...script, phase: "pre" } as const;
		expect(findScriptFault({ scripts: [] })).toBeUndefined();
		expect(findScriptFault({ scripts: [well] })).toBeUndefined();
		expect(findScriptFault({ scripts: [well, { ...script, phase: "post", error }, { ...well, error }] })).toBe(309);
	});

	test.each([
		["was never held", "session", undefined, "script-failed", 500],
		["can't be started", "session", undefined, "script-untrusted", 500],
		["was not held in time", "session", undefined, "script-timeout", 510],
		["lost its hold", "session", false, "script-hold-lost", 509],
		["was not let go in time", "session", false, "script-timeout", 504],
		["was let go with a fault", "session", false, "script-failed", 504],
		["was not undone", "post", undefined, "script-failed", 504],
	] as const)("a database of workload.conf that %s has its own", (_what, phase, held, code, expected) => {
		const error = { code, message: "", retryable: true };
		const about = { name: "a", durationMs: 1, outputTail: "", timedOut: false };
		const script = { ...about, source: "azure-workload", phase, held, error } as const;
		expect(azureCodeOf(error, { scripts: [script] })).toBe(expected);
		expect(findScriptFault({ scripts: [script] })).toBe(expected);
		const other = findScriptFault({ scripts: [{ ...script, source: "drop-in" }] });
		expect(other === expected).toBe(code === "script-hold-lost");
	});

	test("docs/azure.md lists each of them, and each error of ours that has one of its own", () => {
		for (const [code, { name, health }] of Object.entries(azureCodes)) {
			const errors = errorCodes.filter((one) => String(codeOfError[one]) === code);
			const told = code === "2" ? "all others" : errors.map((one) => `\`${one}\``).join(", ");
			expect(page).toContain(`| ${code} | ${name} | ${health} | ${told} |`);
		}
	});
});

test("docs/azure.md lists every key of the configuration, with its default", () => {
	const defaults: Record<string, unknown> = guestConfigSchema.parse({ version: 1 });
	for (const [key, schema] of Object.entries(guestConfigSchema.shape)) {
		const told = key === "version" ? "required" : `\`${JSON.stringify(defaults[key] ?? null)}\``;
		expect(page).toContain(`| \`${key}\` | ${told} | ${schema.description} |`);
	}
});

describe("a status", () => {
	const order = { jobId: "j", level: "file-system", acceptLevel: "file-system" } as const;
	const report = makeFakeReport(order, "file-system");

	test("is one for any host, and carries the service's fields and the whole report", () => {
		const outcome = { ...outcomeOf(report, undefined), report };
		const text = statusFileText(composeStatus(facts, outcome), new Date());
		const [parsed] = handlerStatusFileSchema.parse(JSON.parse(text));
		expect(parsed?.status).toMatchObject({ status: "success", code: 1, operation: "Enable" });
		expect(JSON.parse(parsed?.status.substatus[0]?.formattedMessage.message ?? "")).toEqual(report);
		expect(JSON.parse(parsed?.status.substatus[0]?.name ?? "")).toMatchObject({ taskId: "t", code: 1 });
	});

	test("of a success with a fault has the fault as its health, and stays a success", () => {
		const outcome = { ...outcomeOf(report, undefined), report, healthCode: 308 } as const;
		const status = composeStatus(facts, outcome);
		expect(status).toMatchObject({
			status: "success",
			code: 1,
			vmHealthInfo: { vmHealthState: 128, vmHealthStatusCode: 308 },
		});
		expect(status["telemetryData"]).toContainEqual({ Key: "extErrorCode", Value: "PreScriptTimeout" });
	});

	test("is never larger than a host reads", () => {
		const outputTail = "x".repeat(300_000);
		const scripts = [{ name: "s", phase: "pre" as const, durationMs: 1, timedOut: false, outputTail }];
		const notCovered = Array.from({ length: 2_000 }, (_, index) => ({
			what: `/mnt/${index}`.repeat(20),
			why: "network" as const,
		}));
		const snapshots = Array.from({ length: 2_000 }, () => ({ isSuccessful: true, snapshotUri: "u".repeat(200) }));
		for (const large of [
			{ ...report, scripts },
			{ ...report, scripts, notCovered },
		]) {
			for (const more of [{}, { snapshots }]) {
				const outcome = { ...outcomeOf(large, undefined), report: large, ...more };
				expect(Buffer.byteLength(JSON.stringify({ ...outcome }))).toBeGreaterThan(maxStatusBytes);
				const text = statusFileText(composeStatus(facts, outcome), new Date());
				expect(Buffer.byteLength(text)).toBeLessThan(maxStatusBytes);
				expect(JSON.parse(JSON.parse(text)[0].status.formattedMessage.message).snapshotConsistency).toBe(
					"fileSystemConsistent",
				);
			}
		}
	});

	test("is an error when nothing was taken, when the job failed or when nobody knows", () => {
		expect(outcomeOf(makeFakeReport(order, "none"), undefined)).toMatchObject({ status: "error", code: 2 });
		expect(outcomeOf(makeFakeReport(order, null), undefined)).toMatchObject({ status: "error", code: 2 });
		expect(outcomeOf(report, 76)).toMatchObject({ status: "error", code: 76 });
		const error = { code: "freeze-failed", message: "no", retryable: true } as const;
		const failed = composeStatus(facts, { ...outcomeOf({ ...report, error }, 121), report: { ...report, error } });
		expect(JSON.stringify(failed["formattedMessage"])).toContain('snapshotConsistency\\":\\"none');
	});

	test("is told again and again while the task runs, and not while all is frozen", async () => {
		const folder = await mkdtemp(join(tmpdir(), "stillpoint-test-"));
		const task = { taskId: "t", jobId: "j", sequenceNumbers: [4], startTicks: "1", acceptedAt: "", state: "running" };
		await writeFile(join(folder, "azure-tasks.json"), JSON.stringify({ version: 1, tasks: [task] }), { mode: 0o600 });
		const path = join(folder, "4.status");
		{
			await using renewal = renewStatus({
				packageFolder: folder,
				statusFolder: folder,
				facts,
				now: () => new Date(),
				everyMs: 10,
			});
			const written = async () => (await stat(path).catch(() => undefined))?.ino ?? 0;
			await poll(written).toBeGreaterThan(0);
			expect(JSON.parse(await readFile(path, "utf8"))[0].status).toMatchObject({ status: "transitioning", code: 4 });
			await renewal.hold();
			await rm(path);
			await new Promise((resolve) => setTimeout(resolve, 60));
			expect(await written()).toBe(0);
			renewal.release();
			await poll(written).toBeGreaterThan(0);
		}
		await rm(folder, { recursive: true });
	});
});

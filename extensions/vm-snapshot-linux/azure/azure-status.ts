/**
 * The status of a task in Azure's shape: the fields of the handler contract, which any host reads, and with them those
 * that Azure's backup service knows. The same inner object stands as JSON in the name of the first substatus, where the
 * service looks for it, because host agents hand on the fields of the contract only.
 */
import { atLeast } from "../../../contracts/level.ts";
import type { Report } from "../../../contracts/report.ts";
import { type AzureCode, azureCodes, azureLevels, healthStates } from "./azure-codes.ts";

export const handlerName = "VMSnapshotLinux";
/** Azure's agents cut what is larger. */
export const maxStatusBytes = 128 * 1024;
/** Of the message of each of the fields that others write. */
const maxMessage = 2_048;

export type SnapshotInfo = {
	readonly isSuccessful: boolean;
	/** Without its SAS token. */
	readonly snapshotUri?: string | undefined;
	readonly errorMessage?: string | undefined;
	/** Without its SAS token. */
	readonly blobUri?: string | undefined;
	readonly directDriveSnapshotIdentifier?: unknown;
};

/** All that tells one task from another in its status. */
export type TaskFacts = {
	readonly taskId: string;
	readonly startTicks: string;
	/** Not the machine id itself, which is a secret by its man page. */
	readonly machineHash: string;
	readonly extensionVersion: string;
};

export type TaskOutcome = {
	readonly status: "transitioning" | "success" | "error";
	readonly code: AzureCode;
	/** What the machine's health is told by, where that is not the code: a success may have a fault. */
	readonly healthCode?: AzureCode | undefined;
	readonly message: string;
	readonly report?: Report | undefined;
	readonly snapshots?: readonly SnapshotInfo[] | undefined;
	readonly telemetry?: Readonly<Record<string, string>> | undefined;
};

/** The `status` of a status file. Small enough by itself, however large the report is. */
export function composeStatus(task: TaskFacts, outcome: TaskOutcome): Record<string, unknown> {
	for (const report of [outcome.report, trimmed(outcome.report), undefined]) {
		const status = compose(task, outcome, report);
		if (Buffer.byteLength(JSON.stringify(status)) < maxStatusBytes - 1_024) return status;
	}
	return compose(task, { ...outcome, snapshots: [], telemetry: {} }, undefined);
}

/** What a status file holds. @param timestamp `iso` is what the contract says, `azure` what the service's blob holds. */
export function statusFileText(status: Record<string, unknown>, now: Date, timestamp: "iso" | "azure" = "iso"): string {
	const timestampUTC = timestamp === "iso" ? now.toISOString() : `\\/Date(${now.getTime()})\\/`;
	const text = JSON.stringify([{ version: "1.0", timestampUTC, status }]);
	// JSON.stringify has made two backslashes of each; the service's own parser wants the one.
	return timestamp === "iso" ? text : text.replaceAll("\\\\/", "\\/");
}

/** What a finished job is worth to Azure. Without a snapshot, or with an error, it is never a success. */
export function outcomeOf(
	report: Report,
	code: AzureCode | undefined,
): Pick<TaskOutcome, "status" | "code" | "message"> {
	const reached = report.achieved ?? "none";
	if (report.error !== undefined || code !== undefined || reached === "none") {
		const message =
			report.error === undefined ? "no snapshot was taken" : `${report.error.code}: ${report.error.message}`;
		return { status: "error", code: code ?? azureLevels.none.code, message };
	}
	const weaker = atLeast(reached, report.requested) ? "" : ` (${report.because.join(", ")})`;
	return { status: "success", code: azureLevels[reached].code, message: `snapshot taken: ${reached}${weaker}` };
}

function compose(task: TaskFacts, outcome: TaskOutcome, report: Report | undefined): Record<string, unknown> {
	const { status, code } = outcome;
	const message = outcome.message.slice(0, maxMessage);
	const healthCode = outcome.healthCode ?? code;
	const { name, health } = azureCodes[healthCode];
	const reached = status === "success" ? (report ?? outcome.report)?.achieved : undefined;
	const formattedMessage = {
		lang: "en-US",
		message: JSON.stringify({
			messageStr: message,
			snapshotConsistency: azureLevels[reached ?? "none"].consistency,
			jobMessage: azureCodes[code].name,
		}),
	};
	const inner = {
		name: handlerName,
		operation: "Enable",
		status,
		code,
		taskId: task.taskId,
		commandStartTimeUTCTicks: task.startTicks,
		formattedMessage,
		uniqueMachineId: task.machineHash,
		telemetryData: Object.entries({
			extensionVersion: task.extensionVersion,
			consistencyType: azureLevels[reached ?? "none"].consistency,
			extErrorCode: name,
			...outcome.telemetry,
		}).map(([Key, Value]) => ({ Key, Value })),
		snapshotInfo: (outcome.snapshots ?? []).map((one) => ({
			isSuccessful: one.isSuccessful,
			snapshotUri: one.snapshotUri ?? null,
			errorMessage: one.errorMessage?.slice(0, maxMessage) ?? null,
			blobUri: one.blobUri ?? null,
			directDriveSnapshotIdentifier: one.directDriveSnapshotIdentifier ?? null,
		})),
		vmHealthInfo: { vmHealthState: healthStates[health], vmHealthStatusCode: healthCode },
	};
	const whole = report === undefined ? "the report is too large for a status file" : JSON.stringify(report);
	const said = outcome.report === undefined ? message : whole;
	return {
		...inner,
		substatus: [{ name: JSON.stringify(inner), status, code, formattedMessage: { lang: "en-US", message: said } }],
	};
}

/** Without what is long and not needed to judge it. */
function trimmed(report: Report | undefined): Report | undefined {
	if (report === undefined) return undefined;
	const scripts = report.scripts.map((script) => ({ ...script, outputTail: "" }));
	return {
		...report,
		scripts,
		fileSystems: report.fileSystems.slice(0, 32),
		notCovered: report.notCovered.slice(0, 32),
	};
}

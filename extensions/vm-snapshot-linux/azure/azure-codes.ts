/**
 * Azure's codes for the outcome of a backup task, and what of ours each of them stands for. Numbers, names and health
 * as Azure's extension tells them; the tables are total, so that no outcome is without a status.
 */
import { type ErrorCode, StillpointError } from "../../../contracts/errors.ts";
import type { Level } from "../../../contracts/level.ts";
import type { Report, ScriptReport } from "../../../contracts/report.ts";

type Health = "green" | "yellow" | "red";

export const azureCodes = {
	0: row("success_appconsistent", "green"),
	1: row("success", "green"),
	2: row("error", "green"),
	3: row("SuccessAlreadyProcessedInput", "green"),
	4: row("ExtensionTempTerminalState", "green"),
	11: row("error_parameter", "yellow"),
	13: row("error_wrong_time", "yellow"),
	14: row("error_same_taskid", "yellow"),
	15: row("error_http_failure", "red"),
	16: row("GuestAgentCertificateNotFound", "yellow"),
	17: row("InvalidDataDiskLunList", "green"),
	76: row("SnapshotFailedNoNetwork", "red"),
	85: row("SnapshotLimitReached", "red"),
	121: row("FsFreezeFailed", "yellow"),
	122: row("FsFreezeTimeout", "yellow"),
	123: row("UnableToOpenMount", "yellow"),
	124: row("SafeFreezeBinaryNotFound", "yellow"),
	173: row("SnapshotRateExceeded", "green"),
	300: row("PreScriptFailed", "yellow"),
	301: row("PostScriptFailed", "yellow"),
	302: row("PreScriptNotFound", "yellow"),
	303: row("PostScriptNotFound", "yellow"),
	304: row("PluginhostConfigParsing", "yellow"),
	305: row("PluginConfigParsing", "yellow"),
	306: row("PreScriptPermission", "yellow"),
	307: row("PostScriptPermission", "yellow"),
	308: row("PreScriptTimeout", "yellow"),
	309: row("PostScriptTimeout", "yellow"),
	314: row("PluginhostConfigPermission", "yellow"),
	315: row("PluginhostConfigOwner", "yellow"),
	316: row("PluginConfigNotFound", "yellow"),
	317: row("PluginConfigPermission", "yellow"),
	318: row("PluginConfigOwner", "yellow"),
	402: row("GuestAgentInvokedCommandTooLate", "red"),
	500: row("WorkloadPre", "yellow"),
	501: row("WorkloadConfParsing", "yellow"),
	502: row("WorkloadInvalidRole", "yellow"),
	503: row("WorkloadInvalidName", "yellow"),
	504: row("WorkloadPost", "yellow"),
	505: row("WorkloadAuthorizationMissing", "yellow"),
	509: row("WorkloadQuiescingError", "yellow"),
	510: row("WorkloadQuiescingTimeout", "yellow"),
	556: row("HostSnapshotRemoteServerError", "red"),
	761: row("SnapshotFailedRestrictedNetwork", "red"),
} as const satisfies Record<number, { readonly name: string; readonly health: Health }>;
export type AzureCode = keyof typeof azureCodes;

/** `vmHealthState`. */
export const healthStates: Readonly<Record<Health, number>> = { green: 0, yellow: 128, red: 256 };

/** What Azure calls a level, and the code of a task that reached it. No snapshot is never a success. */
export const azureLevels = {
	application: { consistency: "applicationConsistent", code: 0 },
	"file-system": { consistency: "fileSystemConsistent", code: 1 },
	crash: { consistency: "crashConsistent", code: 1 },
	none: { consistency: "none", code: 2 },
} as const satisfies Record<Level, { consistency: string; code: AzureCode }>;

/** Azure's code for each of ours; `azureCodeOf` may know better from the report. */
export const codeOfError: Readonly<Record<ErrorCode, AzureCode>> = {
	internal: 2,
	"usage-invalid": 11,
	"message-invalid": 11,
	"message-too-large": 11,
	"version-unsupported": 11,
	"config-missing": 11,
	"config-invalid": 11,
	"settings-invalid": 11,
	"order-invalid": 11,
	"not-found": 11,
	"output-failed": 2,
	"platform-unsupported": 124,
	"root-required": 124,
	"tool-missing": 124,
	"state-unusable": 2,
	"journal-corrupt": 2,
	"already-running": 2,
	"address-unusable": 2,
	"agent-unreachable": 2,
	"controller-unreachable": 76,
	"untrusted-path": 2,
	"not-allowed": 2,
	"method-not-allowed": 2,
	"name-taken": 2,
	"not-enrolled": 2,
	"token-invalid": 2,
	"certificate-invalid": 2,
	"certificate-revoked": 2,
	"identity-changed": 2,
	"clock-wrong": 13,
	"proxy-failed": 76,
	"rate-limited": 173,
	"agent-offline": 2,
	"order-expired": 402,
	"job-running": 2,
	"job-unknown": 2,
	"job-conflict": 14,
	cancelled: 2,
	stopping: 2,
	"asker-lost": 2,
	interrupted: 2,
	"disk-unknown": 17,
	"disk-not-mapped": 17,
	"nothing-to-freeze": 121,
	"level-unreachable": 121,
	"run-dir-unsafe": 2,
	"exclusive-operation": 121,
	"write-probe-stuck": 122,
	"foreign-freeze": 121,
	"prepare-failed": 15,
	"stall-too-long": 15,
	"copy-too-slow": 15,
	"freeze-failed": 121,
	"freeze-late": 122,
	"hold-expired": 122,
	"thawed-by-other": 121,
	"freezer-died": 121,
	"thaw-failed": 121,
	stuck: 122,
	"ledger-invalid": 121,
	"snapshot-failed": 15,
	"extension-failed": 2,
	"extension-invalid": 2,
	"extension-missing": 2,
	"extension-timeout": 2,
	"extension-died": 2,
	"extension-skipped": 2,
	"script-config-invalid": 305,
	"script-untrusted": 306,
	"script-failed": 300,
	"script-timeout": 308,
	"script-hold-lost": 509,
	"disk-full": 2,
	"image-unreadable": 2,
	"recovery-point-invalid": 2,
	"verify-failed": 2,
	"deadline-passed": 2,
	terminated: 2,
};

/** The codes of scripts whose failure is told by the post phase. */
const ofPostPhase: Partial<Record<AzureCode, AzureCode>> = { 300: 301, 306: 307, 308: 309 };

/** An error of ours that Azure has a code of its own for. */
export function azureError(code: ErrorCode, azureCode: AzureCode, what: string, cause?: unknown): StillpointError {
	return new StillpointError(code, what, { ...(cause === undefined ? {} : { cause }), details: { azureCode } });
}

type CodedError = Pick<StillpointError, "code"> & { readonly details?: Readonly<Record<string, unknown>> | undefined };

/** @param report tells the phase in which a script failed, and what Azure calls the fault of a configuration. */
export function azureCodeOf(error: CodedError, report?: Pick<Report, "scripts">): AzureCode {
	const own = ownCodeOf(error);
	if (own !== undefined) return own;
	const failed = report?.scripts.filter((script) => script.error?.code === error.code) ?? [];
	const [first] = failed;
	const told = first?.error === undefined ? undefined : ownCodeOf(first.error);
	if (told !== undefined) return told;
	if (first?.source === "azure-workload") return workloadCodeOf(first);
	const code = codeOfError[error.code];
	const onlyPost = failed.length > 0 && failed.every(({ phase }) => phase === "post");
	return onlyPost ? (ofPostPhase[code] ?? code) : code;
}

/** The first fault of a script in a job that went on without it: Azure tells it as the health of the machine. */
export function findScriptFault(report: Pick<Report, "scripts">): AzureCode | undefined {
	const failed = report.scripts.find(({ error }) => error !== undefined);
	return failed?.error === undefined ? undefined : azureCodeOf(failed.error, { scripts: [failed] });
}

/** Of a database in workload.conf. One that was never held is told otherwise than one that lost its hold. */
function workloadCodeOf({ phase, held, error }: ScriptReport): AzureCode {
	if (error?.code === "script-hold-lost") return 509;
	if (phase === "post" || held !== undefined) return 504;
	return error?.code === "script-timeout" ? 510 : 500;
}

function ownCodeOf({ details }: CodedError): AzureCode | undefined {
	const own = details?.["azureCode"];
	return typeof own === "number" && isAzureCode(own) ? own : undefined;
}

function isAzureCode(code: number): code is AzureCode {
	return Object.hasOwn(azureCodes, code);
}

function row(name: string, health: Health): { readonly name: string; readonly health: Health } {
	return { name, health };
}

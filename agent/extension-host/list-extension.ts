import type { StillpointError } from "../../contracts/errors.ts";
import type { HandlerManifest } from "../../contracts/extension.ts";
import type { ExtensionInfo } from "../../contracts/local-calls.ts";
import { isSameProcessAlive } from "../../platform/linux/process-identity.ts";
import type { HandlerVersion } from "./handler.ts";
import type { Unit } from "./unit.ts";

/** Of others that failed the failure is told. */
const toldStates = ["Enabled", "FailedUpgrade"];

/** From memory, but for the question whether known processes live. */
export function listExtension(
	handler: { name: string; version: HandlerVersion | undefined; error: StillpointError | undefined },
	unit: Unit,
): ExtensionInfo {
	const { goal, status, health, heartbeat, restarts, lastCommand } = unit;
	const error = unit.error ?? handler.error;
	return {
		name: handler.name,
		...(goal.instance === undefined ? {} : { instance: goal.instance }),
		version: handler.version?.place.version ?? "",
		state:
			error === undefined || toldStates.includes(unit.state) ? unit.state || "NotInstalled" : `Failed: ${error.code}`,
		sequenceNumber: goal.sequenceNumber,
		...(status === undefined
			? {}
			: { status: status.status, code: status.code, message: status.message, substatus: [...status.substatus] }),
		...(error === undefined ? {} : { error: { code: error.code, message: error.message } }),
		health,
		...(heartbeat === undefined ? {} : { heartbeat }),
		processes: unit.processes.filter(isSameProcessAlive).map(({ pid }) => pid),
		restarts,
		...(lastCommand === undefined ? {} : { lastCommand }),
		limitsNotEnforced: handler.version === undefined ? [] : namesOfLimits(handler.version.manifest),
	};
}

function namesOfLimits({ resourceLimits }: HandlerManifest): string[] {
	if (!resourceLimits) return [];
	const all = [{ name: "", ...resourceLimits }, ...(resourceLimits.services ?? [])];
	return all.flatMap(({ name, cpuQuotaPercentage, memoryQuotaInMB }) => {
		const of = name === "" ? "" : ` of ${name}`;
		return [
			...(cpuQuotaPercentage ? [`CPU ${cpuQuotaPercentage} %${of}`] : []),
			...(memoryQuotaInMB ? [`memory ${memoryQuotaInMB} MB${of}`] : []),
		];
	});
}

/** What has settings, a sequence number and a status of its own: a handler, or one instance of a multi-config handler. */
import { type ErrorCode, StillpointError } from "../../contracts/errors.ts";
import { handlerErrorCodes } from "../../contracts/handler-files.ts";
import type { HandlerGoalState } from "../../contracts/handler-goal-state.ts";
import type { ProcessIdentity } from "../../platform/linux/process-identity.ts";
import type { HandlerVersion, LastCommand } from "./handler.ts";
import { processesOf } from "./handler.ts";
import type { HandlerSettings } from "./handler-files.ts";
import { findHandlerProcesses } from "./handler-processes.ts";
import {
	type HandlerStatusRead,
	handlerStatusPath,
	readHandlerStatus,
	writePlaceholderStatus,
} from "./handler-status-file.ts";
import type { Heartbeat } from "./heartbeat.ts";
import type { HostPorts } from "./host-ports.ts";

export type UnitGoal = HandlerSettings & {
	readonly handler: string;
	readonly instance: string | undefined;
	readonly state: HandlerGoalState["state"];
	readonly dependsOn: readonly string[];
	readonly jobLimitMs: number;
};

/** What the host knows of it; lists are made from this, without a disk. */
export type Unit = {
	readonly goal: UnitGoal;
	state: string;
	status: HandlerStatusRead | undefined;
	error: StillpointError | undefined;
	health: "ok" | "dead" | "silent";
	heartbeat: Heartbeat | undefined;
	processes: readonly ProcessIdentity[];
	/** It left processes that are to live on: their end is a death. */
	hasDaemon: boolean;
	restarts: number;
	lastCommand: LastCommand | undefined;
	/** Settled once: undefined for success, else why whatever depends on it is skipped. */
	readonly ended: PromiseWithResolvers<StillpointError | undefined>;
};

export function makeUnit(goal: UnitGoal): Unit {
	return {
		goal,
		state: goal.state === "enabled" ? "Waiting" : "",
		status: undefined,
		error: undefined,
		health: "ok",
		heartbeat: undefined,
		processes: [],
		hasDaemon: false,
		restarts: 0,
		lastCommand: undefined,
		ended: Promise.withResolvers(),
	};
}

export function unitId({ handler, instance }: Pick<UnitGoal, "handler" | "instance">): string {
	return instance === undefined ? handler : `${handler}/${instance}`;
}

/** Without a drop-in: enabled, with empty settings. */
export function unitGoals(name: string, goal: HandlerGoalState | undefined): UnitGoal[] {
	const base = { handler: name, instance: undefined, state: "enabled" as const, dependsOn: [], jobLimitMs: 5_400_000 };
	if (goal === undefined) return [{ ...base, sequenceNumber: 0 }];
	if (goal.instances === undefined) return [{ ...goal, ...base, ...pick(goal) }];
	return Object.entries(goal.instances).map(([instance, one]) => ({
		...one,
		handler: name,
		instance,
		state: goal.state === "enabled" ? one.state : goal.state,
		dependsOn: [...goal.dependsOn, ...one.dependsOn],
	}));
}

function pick({ state, dependsOn, jobLimitMs }: HandlerGoalState) {
	return { state, dependsOn, jobLimitMs };
}

export function unitStatusPath({ place }: HandlerVersion, { sequenceNumber, instance }: UnitGoal): string {
	return handlerStatusPath(place.statusFolder, sequenceNumber, instance);
}

export async function refreshStatus(unit: Unit, version: HandlerVersion): Promise<HandlerStatusRead> {
	const status = await readHandlerStatus(unitStatusPath(version, unit.goal));
	unit.status = status;
	return status;
}

export function refreshProcesses(unit: Unit, version: HandlerVersion): readonly ProcessIdentity[] {
	unit.processes = findHandlerProcesses(processesOf(version.place, unit.goal.instance));
	return unit.processes;
}

/**
 * The host closes what the unit has open: a status file in the handler's name, unless the handler itself told an error,
 * and whatever depends on the unit hears of it.
 */
export async function failUnit(
	unit: Unit,
	version: HandlerVersion | undefined,
	given: { error: StillpointError; operation: keyof typeof azureCodes },
	ports: HostPorts,
): Promise<void> {
	const { error, operation } = given;
	unit.error = error;
	const id = unitId(unit.goal);
	ports.log.error("an extension failed", { extension: id, operation, code: error.code, message: error.message });
	if (version !== undefined) {
		const told = await readHandlerStatus(unitStatusPath(version, unit.goal));
		if (told.status !== "error" || told.writtenMs === 0) {
			const message = `${error.code}: ${error.message}`;
			const code = error.code === "extension-timeout" ? handlerErrorCodes.timeout : azureCodes[operation];
			const placeholder = { name: unit.goal.handler, operation, code, message };
			const path = unitStatusPath(version, unit.goal);
			await ports.hold.write(() => writePlaceholderStatus(path, placeholder));
		}
		await refreshStatus(unit, version);
	}
	unit.ended.resolve(error);
}

const azureCodes = {
	install: handlerErrorCodes.install,
	update: handlerErrorCodes.update,
	enable: handlerErrorCodes.enable,
	disable: handlerErrorCodes.disable,
	job: handlerErrorCodes.unknown,
	skip: handlerErrorCodes.unknown,
	settings: handlerErrorCodes.unknown,
} as const;

export function unitError(unit: Unit, code: ErrorCode, what: string): StillpointError {
	return new StillpointError(code, `${unitId(unit.goal)}: ${what}`);
}

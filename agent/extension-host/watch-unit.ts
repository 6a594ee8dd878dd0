/**
 * From the end of `enable` on: the job that it accepted is followed to its end and closed when it has none, the daemon
 * that it left is started again when it dies. Ends when there is nothing to watch.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { asStillpointError, type StillpointError } from "../../contracts/errors.ts";
import { isSameProcessAlive } from "../../platform/linux/process-identity.ts";
import { endProcessesOf, type HandlerVersion } from "./handler.ts";
import { isTerminal } from "./handler-status-file.ts";
import { readHeartbeat } from "./heartbeat.ts";
import type { HostPorts } from "./host-ports.ts";
import { untilProgramsMayStart } from "./host-ports.ts";
import { dropJobNote } from "./job-note.ts";
import { makeRestartDelay } from "./restart-delay.ts";
import { failUnit, refreshProcesses, refreshStatus, type Unit, unitError, unitId } from "./unit.ts";

export type UnitWatch = {
	readonly unit: Unit;
	readonly version: HandlerVersion;
	/** When the job began, wall clock. */
	readonly jobStartedMs: number;
	readonly ports: HostPorts;
	/** Runs `enable` again. @throws its failure */
	enableAgain(): Promise<void>;
};

/** @throws the reason of the signal */
export async function watchUnit(watch: UnitWatch, signal: AbortSignal): Promise<void> {
	const { unit, ports } = watch;
	if (!(await followJob(watch, watch.jobStartedMs, signal))) return;
	const enabledMs = Date.now();
	await settle(watch, signal);
	unit.hasDaemon = refreshProcesses(unit, watch.version).length > 0;
	const delay = makeRestartDelay(ports.limits);
	const life = { beganMs: performance.now() };
	while (unit.hasDaemon || watch.version.manifest.handlerManifest.reportHeartbeat) {
		await tick(watch, signal);
		await lookAtHeartbeat(watch, enabledMs);
		if (!unit.hasDaemon) unit.hasDaemon = refreshProcesses(unit, watch.version).length > 0;
		if (!unit.hasDaemon || isAlive(watch)) continue;
		await restart(watch, delay.nextMs(performance.now() - life.beganMs), signal);
		life.beganMs = performance.now();
	}
}

/** @returns whether the unit ended its job with success */
async function followJob(watch: UnitWatch, jobStartedMs: number, signal: AbortSignal): Promise<boolean> {
	const { unit, version, ports } = watch;
	const { limits } = ports;
	const enabledMs = performance.now();
	let goneSinceMs: number | undefined;
	for (;;) {
		const status = await refreshStatus(unit, version);
		if (isTerminal(status)) {
			unit.health = "ok";
			await ports.hold.write(() => dropJobNote(version.place.private, unit.goal.instance));
			if (status.status !== "error") {
				unit.ended.resolve(undefined);
				return true;
			}
			const error = unitError(unit, "extension-failed", `status error, code ${status.code}: ${status.message}`);
			await failUnit(unit, version, { error, operation: "job" }, ports);
			return false;
		}
		const nowMs = performance.now();
		const refreshedMs = status.writtenMs === undefined ? nowMs - enabledMs : Date.now() - status.writtenMs;
		nameSilence(watch, Math.min(refreshedMs, nowMs - enabledMs) > limits.silentMs);
		if (Date.now() - jobStartedMs > unit.goal.jobLimitMs) {
			await endProcessesOf(version.place, unit.goal.instance, ports);
			const error = unitError(unit, "extension-timeout", `its job took longer than ${unit.goal.jobLimitMs} ms`);
			await closeJob(watch, error);
			return false;
		}
		goneSinceMs = isAlive(watch) || refreshProcesses(unit, version).length > 0 ? undefined : (goneSinceMs ?? nowMs);
		if (goneSinceMs !== undefined && nowMs - goneSinceMs > limits.orphanedJobMs) {
			const error = unitError(
				unit,
				"extension-died",
				"all its processes ended, and it left no status that ends its job",
			);
			await closeJob(watch, error);
			return false;
		}
		await tick(watch, signal);
	}
}

async function closeJob({ unit, version, ports }: UnitWatch, error: StillpointError): Promise<void> {
	unit.health = "ok";
	await ports.hold.write(() => dropJobNote(version.place.private, unit.goal.instance));
	await failUnit(unit, version, { error, operation: "job" }, ports);
}

function nameSilence({ unit, ports }: UnitWatch, isSilent: boolean): void {
	if (isSilent && unit.health !== "silent")
		ports.log.warn("an extension is transitioning and fell silent", { extension: unitId(unit.goal) });
	unit.health = isSilent ? "silent" : "ok";
}

async function lookAtHeartbeat({ unit, version, ports }: UnitWatch, enabledMs: number): Promise<void> {
	if (!version.manifest.handlerManifest.reportHeartbeat) return;
	const found = await readHeartbeat(version.place.heartbeatFile, enabledMs, Date.now(), ports.limits);
	if (found.state !== unit.heartbeat?.state)
		ports.log.log(found.state === "ready" ? "info" : "warn", "an extension's heartbeat changed", {
			extension: unitId(unit.goal),
			heartbeat: found.state,
			said: found.message,
		});
	unit.heartbeat = found;
}

/** `enable` again, later each time, until it succeeds. */
async function restart(watch: UnitWatch, delayMs: number, signal: AbortSignal): Promise<void> {
	const { unit, version, ports } = watch;
	const id = unitId(unit.goal);
	unit.health = "dead";
	unit.error = unitError(unit, "extension-died", "its processes are gone");
	ports.log.warn("an extension's processes are gone; it is enabled again", { extension: id, delayMs });
	await sleep(delayMs, undefined, { signal });
	await untilProgramsMayStart(ports, signal);
	unit.restarts += 1;
	try {
		await watch.enableAgain();
		await settle(watch, signal);
		await followJob(watch, Date.now(), signal);
	} catch (error) {
		signal.throwIfAborted();
		unit.error = asStillpointError(error);
		return;
	}
	if (refreshProcesses(unit, version).length === 0) return;
	unit.health = "ok";
	if (unit.error?.code === "extension-died") unit.error = undefined;
}

/** The processes that are known, or else any that are found. */
function isAlive({ unit, version }: UnitWatch): boolean {
	if (unit.processes.some(isSameProcessAlive)) return true;
	return refreshProcesses(unit, version).length > 0;
}

/** What a command's children do at their end must not be taken for a daemon. */
async function settle(watch: UnitWatch, signal: AbortSignal): Promise<void> {
	await tick(watch, signal);
}

/** Nothing is looked at, and nothing restarted, shortly before and while disks are frozen. */
async function tick({ ports }: UnitWatch, signal: AbortSignal): Promise<void> {
	await sleep(ports.limits.watchMs, undefined, { signal });
	await untilProgramsMayStart(ports, signal);
}

/**
 * The host of extensions: brings each handler to what its drop-in says, all beside each other, and keeps them alive.
 * Handlers are told apart by tasks: one handler's command, however long, holds up nothing but what depends on it.
 */
import { mkdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { asStillpointError, StillpointError } from "../../contracts/errors.ts";
import type { HandlerGoalState } from "../../contracts/handler-goal-state.ts";
import type { ExtensionInfo } from "../../contracts/local-calls.ts";
import { bringUpVersion, findCurrentVersion, readInstalledVersions } from "./bring-up-version.ts";
import { choosePackages } from "./choose-packages.ts";
import { checkGraph } from "./dependency-graph.ts";
import { enableUnit } from "./enable-unit.ts";
import { disableHandler, type HandlerVersion, type OnCommand, removeVersion, uninstallHandler } from "./handler.ts";
import { findOtherInstances, readHandlerState, writeHandlerEnvironment, writeSettings } from "./handler-files.ts";
import { privateFoldersOf } from "./handler-place.ts";
import {
	aborted,
	carryUnit,
	commonWaits,
	type FailedUnit,
	firstFailure,
	type Handler,
	inTurn,
	makeHandler,
	noValue,
	type Round,
	toInstalled,
	untilEnabled,
} from "./handler-round.ts";
import type { HostPorts } from "./host-ports.ts";
import type { InstalledExtension } from "./installed-extension.ts";
import { noteJobStart } from "./job-note.ts";
import { listExtension } from "./list-extension.ts";
import { removeMountPoints } from "./private-view.ts";
import { readGoalStates } from "./read-goal-states.ts";
import { type PackageSource, removeDrafts } from "./stage-package.ts";
import { failUnit, makeUnit, refreshStatus, type Unit, unitError, unitGoals, unitId } from "./unit.ts";
import { watchEvents } from "./watch-events.ts";
import { watchUnit } from "./watch-unit.ts";

const jobPollMs = 200;

export type ExtensionHost = AsyncDisposable & {
	/** Resolves when every extension of ours is enabled or failed; foreign handlers go on meanwhile. */
	start(): Promise<void>;
	/** Reads the drop-ins again; resolves when they are read and every handler is on its way. */
	apply(): Promise<void>;
	readonly installed: readonly InstalledExtension[];
	list(): Promise<ExtensionInfo[]>;
};

export function makeExtensionHost(
	given: { sources: readonly string[]; settingsFolder: string; jobRuns(): boolean },
	ports: HostPorts,
): ExtensionHost {
	const { log, folders, stopping } = ports;
	const handlers = new Map<string, Handler>();
	const state = { round: new AbortController(), applying: Promise.resolve() };

	async function begin(isFirst: boolean): Promise<Map<string, Promise<void>>> {
		const [packages, goals, versions] = await Promise.all([
			choosePackages(given.sources, log),
			readGoalStates(given.settingsFolder),
			readInstalledVersions(folders),
		]);
		stopping.throwIfAborted();
		if (goals.strange.length > 0)
			log.warn("drop-in files whose names no extension can have are passed over", { files: goals.strange });
		state.round.abort();
		state.round = new AbortController();
		const signal = AbortSignal.any([state.round.signal, stopping]);
		const names = new Set([...packages.keys(), ...versions.keys(), ...goals.wanted.keys(), ...goals.faults.keys()]);
		for (const name of names)
			if (!handlers.has(name))
				handlers.set(name, makeHandler(name, await findCurrentVersion(versions.get(name) ?? [])));
		for (const [name, handler] of handlers) {
			handler.error = goals.faults.get(name);
			handler.units = unitGoals(name, goals.wanted.get(name)).map((goal) => carryUnit(makeUnit(goal), handler));
		}
		const units = [...handlers.values()].flatMap((handler) => handler.units);
		const enabled = units.filter(({ goal }) => goal.state === "enabled");
		const graph = checkGraph(
			enabled.map(({ goal }) => ({ id: unitId(goal), handler: goal.handler, dependsOn: goal.dependsOn })),
		);
		const round: Round = {
			signal,
			units: new Map(units.map((unit) => [unitId(unit.goal), unit])),
			waitsFor: graph.waitsFor,
			graphFaults: graph.faults,
			down: new Map([...handlers.keys()].map((name) => [name, Promise.withResolvers<void>()])),
			isFirst,
		};
		const tasks = new Map<string, Promise<void>>();
		for (const [name, handler] of handlers) {
			const before = handler.task;
			const goal = goals.wanted.get(name);
			const source = packages.get(name);
			handler.task = (async () => {
				await before;
				if (signal.aborted) return;
				await runHandler(handler, goal, source, round).catch((error: unknown) => failHandler(handler, error, signal));
				round.down.get(name)?.resolve();
			})();
			const isOurs = (source ?? handler.version)?.manifest.handlerManifest.snapshotCommand !== undefined;
			const waits = handler.units.some(({ goal }) => goal.dependsOn.length > 0);
			if (isOurs && !waits)
				tasks.set(name, Promise.race([handler.task, Promise.all(handler.units.map(untilEnabled))]).then(noValue));
		}
		return tasks;
	}

	async function runHandler(
		handler: Handler,
		goal: HandlerGoalState | undefined,
		source: PackageSource | undefined,
		round: Round,
	): Promise<void> {
		if (handler.error !== undefined) {
			// Which number it has is not known either: no status file is touched.
			for (const unit of handler.units)
				await failUnit(unit, undefined, { error: handler.error, operation: "settings" }, ports);
			return;
		}
		if ((goal?.state ?? "enabled") !== "enabled") {
			await bringDown(handler, goal as HandlerGoalState, round);
			return;
		}
		round.down.get(handler.name)?.resolve();
		const wanted = handler.units.filter((unit) => unit.goal.state === "enabled");
		await Promise.all(wanted.map((unit) => checkUnit(unit, handler, round)));
		const ready = wanted.filter(({ error }) => error === undefined);
		// What every instance waits for holds up the install, too: it may need what the other one brings.
		const cause = await firstFailure(commonWaits(ready, round), round);
		if (cause !== undefined) {
			for (const unit of ready) await skipUnit(unit, handler.version, cause);
			return;
		}
		const isOurs = (source ?? handler.version)?.manifest.handlerManifest.snapshotCommand !== undefined;
		if (isOurs) await untilNoJob(round.signal);
		round.signal.throwIfAborted();
		if (ready.length > 0 || wanted.length === 0) await inTurn(handler, () => bringUp(handler, goal, source, round));
		await Promise.all(ready.map((unit) => runUnit(unit, handler, round)));
	}

	async function checkUnit(unit: Unit, handler: Handler, round: Round): Promise<void> {
		const fault = round.graphFaults.get(unitId(unit.goal));
		if (fault !== undefined) await failUnit(unit, handler.version, { error: fault, operation: "settings" }, ports);
	}

	async function bringUp(
		handler: Handler,
		goal: HandlerGoalState | undefined,
		source: PackageSource | undefined,
		round: Round,
	): Promise<void> {
		const units = handler.units.map(({ goal: { instance, sequenceNumber } }) => ({ instance, sequenceNumber }));
		const { name } = handler;
		const prepare = (version: HandlerVersion) => prepareFiles(handler, version, goal?.instances !== undefined);
		const onCommand = noteCommand(handler);
		const retryUpdate = !round.isFirst;
		const brought = await bringUpVersion({ name, source, retryUpdate, units, ports, onCommand, prepare });
		const { version, updateError } = brought;
		handler.version = version;
		handler.uninstallExit = brought.uninstallExit;
		if (updateError !== undefined) {
			handler.error = updateError;
			log.error("an update of an extension failed; the version before stays", { extension: name, error: updateError });
		}
		handler.events?.[Symbol.dispose]();
		handler.events = watchEvents(version.place.eventsFolder, name, ports);
		for (const unit of handler.units.filter(({ goal }) => goal.state === "disabled"))
			await disableHandler(version, unit.goal, ports, noteCommand(handler)).then(
				() => {
					unit.state = "Disabled";
				},
				(error: unknown) => {
					stopping.throwIfAborted();
					unit.error = asStillpointError(error);
				},
			);
		const wanted = handler.units.map(({ goal: { instance } }) => instance);
		for (const stray of await findOtherInstances(version.place, wanted))
			await disableHandler(version, stray, ports, noteCommand(handler));
	}

	/** All that a version's commands find, before the first of them is run. */
	async function prepareFiles(handler: Handler, version: HandlerVersion, hasInstances: boolean): Promise<void> {
		if (hasInstances && !version.manifest.handlerManifest.supportsMultipleExtensions)
			throw new StillpointError("settings-invalid", `${handler.name}: instances: the handler does not support them`);
		await ports.hold.write(async () => {
			await writeHandlerEnvironment(version.place);
			await mkdir(version.place.eventsFolder, { recursive: true, mode: 0o700 });
		});
		for (const { goal } of handler.units.filter((unit) => unit.goal.state === "enabled"))
			await ports.hold.write(() => writeSettings(version.place, goal, goal.instance));
	}

	/** What lies in the package's folder is that of the running job. */
	async function untilNoJob(signal: AbortSignal): Promise<void> {
		while (given.jobRuns()) await sleep(jobPollMs, undefined, { signal });
	}

	async function runUnit(unit: Unit, handler: Handler, round: Round): Promise<void> {
		const { signal } = round;
		const version = handler.version as HandlerVersion;
		const cause = await firstFailure(round.waitsFor.get(unitId(unit.goal)) ?? [], round);
		signal.throwIfAborted();
		if (cause !== undefined) {
			await skipUnit(unit, version, cause);
			return;
		}
		const enable = () =>
			inTurn(handler, async () => {
				signal.throwIfAborted();
				await enableUnit(unit, version, ports, handler.uninstallExit);
			});
		try {
			const { instance, sequenceNumber } = unit.goal;
			const jobStartedMs = await ports.hold.write(() =>
				noteJobStart(version.place.private, instance, sequenceNumber, new Date()),
			);
			await enable();
			// An extension of ours without a status has said all with its exit status.
			if (!version.place.isForeign && unit.status?.writtenMs === undefined) unit.ended.resolve(undefined);
			else await watchUnit({ unit, version, jobStartedMs, ports, enableAgain: enable }, signal);
		} catch (error) {
			signal.throwIfAborted();
			await failUnit(unit, version, { error: asStillpointError(error), operation: "enable" }, ports);
		}
	}

	async function skipUnit(unit: Unit, version: HandlerVersion | undefined, cause: FailedUnit): Promise<void> {
		const error = unitError(unit, "extension-skipped", `it depends on ${cause.id}: ${cause.error.message}`);
		await failUnit(unit, version, { error, operation: "skip" }, ports);
	}

	/** After everything that depends on it: the reverse of the way up. */
	async function bringDown(handler: Handler, goal: HandlerGoalState, round: Round): Promise<void> {
		const { name, version } = handler;
		if (goal.state === "disabled" && version === undefined) return;
		const isOurs = version?.manifest.handlerManifest.snapshotCommand !== undefined;
		if (isOurs && given.jobRuns()) throw new StillpointError("job-running", `${name} takes a snapshot; apply again`);
		for (const unit of handler.units) unit.state = goal.state === "disabled" ? "Disabled" : "Uninstalled";
		for (const [other, { units }] of handlers)
			if (other !== name && units.some((unit) => unit.goal.dependsOn.some((one) => one.split("/")[0] === name)))
				await Promise.race([round.down.get(other)?.promise, aborted(round.signal)]);
		if (version === undefined) {
			// An agent that was killed at the end of an uninstall may have left them.
			await ports.hold.write(() => rm(privateFoldersOf(folders, name).folder, { recursive: true, force: true }));
			return;
		}
		handler.events?.[Symbol.dispose]();
		handler.events = undefined;
		const onCommand = noteCommand(handler);
		await inTurn(handler, async () => {
			const named = handler.units.map(({ goal: unit }) => unit);
			const others = await findOtherInstances(
				version.place,
				named.map(({ instance }) => instance),
			);
			// Where the drop-in names no instances any more, they are what is enabled, and not the handler as a whole.
			const all = [...others, ...(others.length > 0 ? named.filter(({ instance }) => instance !== undefined) : named)];
			for (const unit of all)
				await disableHandler(version, unit, ports, onCommand).catch((error: unknown) => {
					stopping.throwIfAborted();
					if (goal.state === "disabled") throw error;
					log.warn("the disable before an uninstall failed", { extension: name, error });
				});
			if (goal.state !== "uninstalled") return;
			await uninstallHandler(version, { sequenceNumber: goal.sequenceNumber }, ports, onCommand);
			for (const left of (await readInstalledVersions(folders)).get(name) ?? []) await removeVersion(left, ports);
			handler.version = undefined;
		});
	}

	/** A fault of the handler is one of each of its units. */
	async function failHandler(handler: Handler, thrown: unknown, signal: AbortSignal): Promise<void> {
		if (signal.aborted) return;
		const error = asStillpointError(thrown);
		const { code, message, details } = error;
		log.error("an extension could not be installed or enabled", { extension: handler.name, code, message, ...details });
		const operation = code === "settings-invalid" ? "settings" : "install";
		handler.version = await findCurrentVersion((await readInstalledVersions(folders)).get(handler.name) ?? []);
		handler.error = error;
		const onDisk = handler.version === undefined ? "" : await readHandlerState(handler.version.place);
		// One that was enabled in an earlier round goes on; its fault is that of its new settings.
		if (onDisk !== "Enabled") for (const unit of handler.units) unit.state = onDisk;
		for (const unit of handler.units)
			await failUnit(unit, handler.version, { error, operation }, ports).catch((fault: unknown) => {
				unit.ended.resolve(error);
				log.warn("a status file could not be written", { extension: handler.name, error: fault });
			});
	}

	function noteCommand(handler: Handler): OnCommand {
		return (last, instance) => {
			for (const unit of handler.units)
				if (instance === undefined || unit.goal.instance === instance) {
					unit.lastCommand = last;
					// Whatever else was run, it has to be enabled again.
					if (unit.goal.state === "enabled") unit.state = "Waiting";
				}
		};
	}

	async function applyOnce(isFirst: boolean): Promise<Map<string, Promise<void>>> {
		// One at a time; a fault of one is no fault of the next.
		const done = state.applying.then(() => begin(isFirst));
		state.applying = done.then(noValue, noValue);
		return await done;
	}

	return {
		async start() {
			await removeDrafts(folders.extensionsDir);
			await mkdir(join(folders.extensionsDir, ".private"), { recursive: true, mode: 0o700 });
			const tasks = await applyOnce(true).catch((error: unknown) => {
				stopping.throwIfAborted();
				log.error("the drop-in files of extensions cannot be used", { error });
				return new Map<string, Promise<void>>();
			});
			await Promise.all(tasks.values());
			stopping.throwIfAborted();
		},
		async apply() {
			await applyOnce(false);
		},
		get installed() {
			return [...handlers.values()].flatMap(toInstalled);
		},
		async list() {
			if (ports.mayStartPrograms())
				for (const { version, units } of handlers.values())
					if (version !== undefined) await Promise.all(units.map((unit) => refreshStatus(unit, version)));
			return [...handlers.values()].flatMap((handler) => handler.units.map((unit) => listExtension(handler, unit)));
		},
		async [Symbol.asyncDispose]() {
			state.round.abort();
			await Promise.allSettled([...handlers.values()].map(({ task }) => task));
			for (const { events } of handlers.values()) events?.[Symbol.dispose]();
			await removeMountPoints(folders.extensionsDir).catch((error: unknown) =>
				log.warn("the mount points of extensions could not be removed", { error }),
			);
		},
	};
}

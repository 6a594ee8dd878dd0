/** What the host keeps of a handler, and what one look at packages and drop-ins gives. */
import type { StillpointError } from "../../contracts/errors.ts";
import { type HandlerVersion, notRun } from "./handler.ts";
import type { InstalledExtension } from "./installed-extension.ts";
import { type Unit, unitId } from "./unit.ts";

/** One handler over all rounds. */
export type Handler = {
	readonly name: string;
	version: HandlerVersion | undefined;
	units: Unit[];
	error: StillpointError | undefined;
	/** Of the version before, for `enable`. */
	uninstallExit: string;
	/** Commands of one handler run one after the other. */
	turn: Promise<unknown>;
	/** The task of the last round. */
	task: Promise<void>;
	events: Disposable | undefined;
};

/** What one look at packages and drop-ins gave. */
export type Round = {
	readonly signal: AbortSignal;
	readonly units: ReadonlyMap<string, Unit>;
	readonly waitsFor: ReadonlyMap<string, readonly string[]>;
	readonly graphFaults: ReadonlyMap<string, StillpointError>;
	/** By name: resolves when a handler that shall not be enabled is down. */
	readonly down: ReadonlyMap<string, PromiseWithResolvers<void>>;
	readonly isFirst: boolean;
};

export function makeHandler(name: string, version: HandlerVersion | undefined): Handler {
	return {
		name,
		version,
		units: [],
		error: undefined,
		uninstallExit: notRun,
		turn: Promise.resolve(),
		task: Promise.resolve(),
		events: undefined,
	};
}

export type FailedUnit = { readonly id: string; readonly error: StillpointError };

/** Waits for the units, one after the other. @throws the reason of the round's signal */
export async function firstFailure(ids: readonly string[], round: Round): Promise<FailedUnit | undefined> {
	for (const id of ids) {
		const error = await Promise.race([round.units.get(id)?.ended.promise, aborted(round.signal)]);
		if (error !== undefined) return { id, error };
	}
	return undefined;
}

export async function inTurn<T>(handler: Handler, work: () => Promise<T>): Promise<T> {
	const done = handler.turn.then(work);
	handler.turn = done.then(noValue, noValue);
	return await done;
}

/** What a unit counted stays with it over rounds. */
export function carryUnit(unit: Unit, { units }: Handler): Unit {
	const before = units.find(({ goal }) => goal.instance === unit.goal.instance);
	if (before === undefined) return unit;
	const { restarts, lastCommand, processes } = before;
	Object.assign(unit, { restarts, lastCommand, processes });
	if (before.state === "Enabled" && unit.goal.state === "enabled") unit.state = "Enabled";
	return unit;
}

export function commonWaits(units: readonly Unit[], { waitsFor }: Round): string[] {
	const [first, ...rest] = units.map((unit) => waitsFor.get(unitId(unit.goal)) ?? []);
	return (first ?? []).filter((id) => rest.every((ids) => ids.includes(id)));
}

export function toInstalled({ version, units, error }: Handler): InstalledExtension[] {
	if (version === undefined) return [];
	const { manifest, place } = version;
	const failed = units.find((unit) => unit.state !== "Enabled" && unit.error !== undefined)?.error ?? error;
	const isEnabled = units.some((unit) => unit.state === "Enabled");
	const state = isEnabled
		? "Enabled"
		: failed === undefined
			? (units[0]?.state ?? "Installed")
			: `Failed: ${failed.code}`;
	return [{ name: place.name, version: place.version, folder: place.folder, manifest, state }];
}

/** Enabled, or never to be. */
export async function untilEnabled(unit: Unit): Promise<void> {
	await unit.ended.promise;
}

export function aborted(signal: AbortSignal): Promise<never> {
	return new Promise((_, reject) => {
		if (signal.aborted) reject(signal.reason as Error);
		signal.addEventListener("abort", () => reject(signal.reason as Error), { once: true });
	});
}

export function noValue(): void {}

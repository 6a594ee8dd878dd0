/**
 * The kernel's `rcu_expedited` as it stands outside of a turn. Left on, it makes the freeze of who does not use it some
 * 40 times shorter, so it must be off when a turn begins, and stay so in the turn of such a one.
 */
import { writeFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { isExpedited } from "../../platform/linux/rcu-expedited.ts";

const switchPath = "/sys/kernel/rcu_expedited";
/** A freeze of somebody else's is over by then; what a killed one left on stays. */
const othersLimitMs = 3_000;
const lookEveryMs = 5;

/** Puts back in the end what stood there in the beginning, when nobody was using it. */
export async function keepExpeditedSwitch(signal: AbortSignal): Promise<Disposable> {
	await waitForOthers(signal);
	const found = isExpedited() ? "1" : "0";
	return { [Symbol.dispose]: () => writeFileSync(switchPath, found) };
}

/** Waits for others to be done with it, and switches off what nobody does. Under `keepExpeditedSwitch`. */
export async function switchExpeditedOff(signal: AbortSignal): Promise<void> {
	await waitForOthers(signal);
	if (isExpedited()) writeFileSync(switchPath, "0");
}

async function waitForOthers(signal: AbortSignal): Promise<void> {
	const limit = AbortSignal.timeout(othersLimitMs);
	while (isExpedited() && !limit.aborted) await sleep(20, undefined, { signal });
}

/** From now on until it is disposed. */
export function watchExpedited(): Disposable & { readonly wasOn: boolean } {
	let wasOn = false;
	const look = (): void => {
		wasOn ||= isExpedited();
	};
	const timer = setInterval(look, lookEveryMs);
	return {
		get wasOn() {
			return wasOn;
		},
		[Symbol.dispose]: () => clearInterval(timer),
	};
}

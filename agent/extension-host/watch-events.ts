import { type FSWatcher, watch } from "node:fs";
import { collectEvents, eventLimits, removeEvents } from "./collect-events.ts";
import type { HostPorts } from "./host-ports.ts";

const settleMs = 500;
const retryMs = 1_000;

/**
 * Takes the events of one handler into the agent's log as they come. The kernel tells when a file appears: nothing
 * runs while there is none, and nothing is read while disks may be frozen.
 */
export function watchEvents(folder: string, name: string, ports: HostPorts): Disposable {
	const log = ports.log.child({ extension: name });
	const state = {
		timer: undefined as NodeJS.Timeout | undefined,
		busy: false,
		closed: false,
		taken: 0,
		periodBeganMs: -Infinity,
		watcher: undefined as FSWatcher | undefined,
	};

	function soon(afterMs: number): void {
		if (state.closed || state.timer !== undefined) return;
		state.timer = setTimeout(() => {
			state.timer = undefined;
			void pass().catch((error: unknown) => log.warn("events could not be collected", { error }));
		}, afterMs);
		state.timer.unref();
	}

	async function pass(): Promise<void> {
		if (state.busy || !ports.mayStartPrograms()) {
			soon(retryMs);
			return;
		}
		state.busy = true;
		try {
			const nowMs = performance.now();
			if (nowMs - state.periodBeganMs > eventLimits.periodMs) Object.assign(state, { periodBeganMs: nowMs, taken: 0 });
			const found = await collectEvents(folder, eventLimits.events - state.taken, Date.now());
			state.taken += found.events.length;
			for (const event of found.events) {
				const { Message, EventLevel, ...rest } = event;
				log.log(levelOf(EventLevel), `event: ${Message}`, { event: rest });
			}
			for (const reason of found.refused) log.warn("an event was refused", { reason });
			if (found.paths.length > 0) await ports.hold.write(() => removeEvents(found.paths));
			if (found.waiting > 0) soon(retryMs);
		} finally {
			state.busy = false;
		}
	}

	try {
		state.watcher = watch(folder, { persistent: false }, () => soon(settleMs));
		state.watcher.on("error", (error) => log.warn("the events folder cannot be watched", { error }));
	} catch (error) {
		log.warn("the events folder cannot be watched", { error });
	}
	soon(0);
	return {
		[Symbol.dispose]() {
			state.closed = true;
			clearTimeout(state.timer);
			state.watcher?.close();
		},
	};
}

function levelOf(word: string): "error" | "warn" | "info" | "debug" {
	const lower = word.toLowerCase();
	if (lower === "error" || lower === "critical") return "error";
	if (lower === "warning") return "warn";
	return lower === "verbose" ? "debug" : "info";
}

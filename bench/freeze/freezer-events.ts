import type { FreezerEvent } from "../../contracts/freezer-protocol.ts";
import type { Interval } from "./gaps.ts";

type Answer = Extract<FreezerEvent, { type: "fileSystem" }>;

/** From the freezer's answers: when anything could be frozen, and what it took by its own clock. */
export function windowOf(events: readonly FreezerEvent[]): { frozen: Interval; own: Record<string, number> } {
	const answers = events.filter((event): event is Answer => event.type === "fileSystem");
	const freezes = answers.filter(({ result }) => result === "frozen");
	const thaws = answers.filter(({ result }) => result === "thawed");
	if (freezes.length === 0 || thaws.length !== freezes.length) {
		throw new Error(`${freezes.length} were frozen and ${thaws.length} thawed: ${JSON.stringify(events.slice(-3))}`);
	}
	const fromMs = Math.min(...freezes.map(({ startedAtMs }) => startedAtMs));
	const frozenAtMs = Math.max(...freezes.map(({ endedAtMs }) => endedAtMs));
	const thawingAtMs = Math.min(...thaws.map(({ startedAtMs }) => startedAtMs));
	const untilMs = Math.max(...thaws.map(({ endedAtMs }) => endedAtMs));
	return {
		frozen: { fromMs, untilMs },
		own: {
			freezeMs: frozenAtMs - fromMs,
			slowestFreezeMs: Math.max(...freezes.map(({ startedAtMs, endedAtMs }) => endedAtMs - startedAtMs)),
			slowestThawMs: Math.max(...thaws.map(({ startedAtMs, endedAtMs }) => endedAtMs - startedAtMs)),
			heldMs: thawingAtMs - frozenAtMs,
			thawMs: untilMs - thawingAtMs,
			frozenMs: untilMs - fromMs,
			skewMs: frozenAtMs - Math.min(...freezes.map(({ endedAtMs }) => endedAtMs)),
			expedited: events.some((event) => event.type === "frozen" && event.expedited) ? 1 : 0,
		},
	};
}

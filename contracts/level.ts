import { z } from "zod";

/** What a snapshot is worth, weakest first. */
export const levels = ["none", "crash", "file-system", "application"] as const;
export const levelSchema = z.enum(levels);
export type Level = (typeof levels)[number];

export function atLeast(level: Level, wanted: Level): boolean {
	return levels.indexOf(level) >= levels.indexOf(wanted);
}

/** The weakest of the given levels; `otherwise` when there are none. */
export function lowest(of: Iterable<Level>, otherwise: Level): Level {
	let result: Level | undefined;
	for (const level of of) if (result === undefined || !atLeast(level, result)) result = level;
	return result ?? otherwise;
}

import type { HandlerManifest } from "../../contracts/extension.ts";

/** A package below `<state>/extensions`, as the last start left it. */
export type InstalledExtension = {
	readonly name: string;
	readonly version: string;
	readonly folder: string;
	readonly manifest: HandlerManifest;
	/** Azure's words in `config/HandlerState`, or `Failed: CODE` of this start. */
	readonly state: string;
};

/** Compares versions of numbers and dots: ascending. */
export function compareVersions(a: string, b: string): number {
	const [left, right] = [a, b].map((version) => version.split(".").map(Number)) as [number[], number[]];
	for (let index = 0; index < Math.max(left.length, right.length); index += 1) {
		const difference = (left[index] ?? 0) - (right[index] ?? 0);
		if (difference !== 0) return difference;
	}
	return 0;
}

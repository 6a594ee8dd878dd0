import { readFile } from "node:fs/promises";
import { unescapeOctal } from "./mount-table.ts";

export type Swap = { readonly path: string; readonly isFile: boolean };

export async function readSwaps(): Promise<Swap[]> {
	return parseSwaps(await readFile("/proc/swaps", "utf8"));
}

/** /proc/swaps: a heading, then path, type, size, used, priority. */
export function parseSwaps(text: string): Swap[] {
	return text
		.split("\n")
		.slice(1)
		.flatMap((line) => {
			const [path, type] = line.trim().split(/\s+/);
			return path === undefined || path === "" || type === undefined
				? []
				: [{ path: unescapeOctal(path), isFile: type === "file" }];
		});
}

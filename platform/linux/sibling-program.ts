import { fileURLToPath } from "node:url";

/**
 * Path of a program that is started beside the one that runs: a source file when run from source, a bundled file in
 * the same folder when bundled.
 * @param from `import.meta.url` of the caller.
 */
export function siblingProgram(from: string, paths: { readonly source: string; readonly bundled: string }): string {
	return fileURLToPath(new URL(from.endsWith(".ts") ? paths.source : paths.bundled, from));
}

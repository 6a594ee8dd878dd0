import { getCompileCacheDir } from "node:module";

/**
 * The environment of a process of ours: the threads of its pool, and our cache of compiled code when we use one. A
 * NODE_OPTIONS or a debugger port of the parent has no place in it.
 */
export function childEnvironment(threads: number): Record<string, string> {
	const cache = getCompileCacheDir();
	return { UV_THREADPOOL_SIZE: String(threads), ...(cache === undefined ? {} : { NODE_COMPILE_CACHE: cache }) };
}

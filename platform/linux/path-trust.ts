import type { BigIntStats } from "node:fs";
import { lstat, readlink } from "node:fs/promises";
import { dirname, isAbsolute, join } from "node:path";
import { StillpointError } from "../../contracts/errors.ts";

/** How a path could be changed by someone who is not root. */
type TrustFault = { readonly path: string; readonly fault: string };

/**
 * Checks that nobody but root can change what `path` leads to: it and every folder up to `/`, and the same for
 * each symbolic link on the way and what it leads to, belong to uid 0 and are not writable by group or others.
 * A sticky folder such as /tmp is not trusted. Returns the real path that was checked.
 * @throws `untrusted-path` naming the component; `not-found` when it does not exist.
 */
export async function checkRootOwnedChain(path: string): Promise<string> {
	if (!isAbsolute(path)) throw untrusted({ path, fault: "is not an absolute path" });
	let here = "/";
	let linksLeft = 40;
	await lookAt(here);
	// As the kernel walks: `..` after a link leads out of where the link led to.
	const names = path.split("/");
	for (let name = names.shift(); name !== undefined; name = names.shift()) {
		if (name === "" || name === ".") continue;
		const next = name === ".." ? dirname(here) : join(here, name);
		const stats = await lookAt(next);
		if (!stats.isSymbolicLink()) {
			here = next;
			continue;
		}
		linksLeft -= 1;
		if (linksLeft < 0) throw untrusted({ path: next, fault: "is one of too many symbolic links" });
		const target = await readlink(next);
		if (isAbsolute(target)) here = "/";
		names.unshift(...target.split("/"));
	}
	return here;
}

async function lookAt(path: string): Promise<BigIntStats> {
	const stats = await lstat(path, { bigint: true }).catch((cause: NodeJS.ErrnoException) => {
		throw cause.code === "ENOENT" || cause.code === "ENOTDIR"
			? new StillpointError("not-found", `${path} does not exist`, { cause, details: { path } })
			: untrusted({ path, fault: `cannot be looked at (${cause.code})` }, cause);
	});
	const fault = findFault(stats);
	if (fault !== undefined) throw untrusted({ path, fault });
	return stats;
}

function findFault(stats: BigIntStats): string | undefined {
	if (stats.uid !== 0n) return `belongs to uid ${stats.uid}`;
	if (stats.isSymbolicLink()) return undefined;
	if (!stats.isFile() && !stats.isDirectory()) return "is neither a file nor a folder";
	if ((stats.mode & 0o022n) !== 0n)
		return `is writable by group or others (mode ${(stats.mode & 0o7777n).toString(8).padStart(4, "0")})`;
	return undefined;
}

function untrusted({ path, fault }: TrustFault, cause?: unknown): StillpointError {
	return new StillpointError("untrusted-path", `${path} ${fault}`, { cause, details: { path, fault } });
}

import type { BigIntStats } from "node:fs";
import { stat } from "node:fs/promises";
import { dirname } from "node:path";
import type { ScriptUser } from "./script-user.ts";

/** By the modes alone: where access lists say more than they, the answer may be wrong, and what is run says so. */
export async function findAccess(
	realPath: string,
	stats: BigIntStats,
	user: ScriptUser,
): Promise<{ readonly reads: boolean; readonly executes: boolean }> {
	for (let folder = dirname(realPath); ; folder = dirname(folder)) {
		if (!allows(await stat(folder, { bigint: true }), user, 1n)) return { reads: false, executes: false };
		if (folder === "/") break;
	}
	return { reads: allows(stats, user, 4n), executes: allows(stats, user, 1n) };
}

function allows({ mode, uid, gid }: BigIntStats, user: ScriptUser, bit: bigint): boolean {
	if (user.uid === 0) return true;
	if (uid === BigInt(user.uid)) return (mode & (bit << 6n)) !== 0n;
	const isMember = user.gid === Number(gid) || user.groups.includes(Number(gid));
	return (mode & (isMember ? bit << 3n : bit)) !== 0n;
}

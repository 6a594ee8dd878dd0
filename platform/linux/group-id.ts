import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { StillpointError } from "../../contracts/errors.ts";

const limitMs = 5_000;

/**
 * The number of a group by its name, by all that nsswitch.conf names; a number is taken as it is.
 * @throws `not-found` when there is no such group, `tool-missing` without getent, `deadline-passed`
 */
export async function readGroupId(group: string, signal?: AbortSignal): Promise<number> {
	if (/^\d{1,9}$/.test(group)) return Number(group);
	try {
		const options = { timeout: limitMs, signal, env: { PATH: "/usr/sbin:/usr/bin:/sbin:/bin", LC_ALL: "C" } };
		const { stdout } = await promisify(execFile)("getent", ["group", "--", group], options);
		const gid = /^[^:]*:[^:]*:(\d{1,10}):/.exec(stdout)?.[1];
		if (gid !== undefined) return Number(gid);
	} catch (cause) {
		const { code, killed } = cause as { code?: unknown; killed?: boolean };
		if (code === "ENOENT")
			throw new StillpointError("tool-missing", "getent (package libc-bin) is not there", { cause });
		if (killed === true)
			throw new StillpointError("deadline-passed", `getent did not find ${group} in time`, { cause });
		if (code !== 2) throw new StillpointError("not-found", `the group ${group} cannot be looked up`, { cause });
	}
	throw new StillpointError("not-found", `there is no group ${group}`);
}

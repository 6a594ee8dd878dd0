/** The processes of this machine, as far as procfs tells without waiting for one of them. */
import { readdir, readFile, readlink } from "node:fs/promises";
import { parseProcessStat } from "../../platform/linux/process-identity.ts";

export type Process = {
	readonly pid: number;
	readonly parent: number;
	/** The kernel keeps 15 bytes of it. */
	readonly name: string;
	readonly args: readonly string[];
	/** Working directory; many databases make it their data folder. */
	readonly folder?: string;
	/** In another mount namespace: its paths are not ours. */
	readonly isElsewhere?: boolean;
	/** Its root folder, as seen from the root of its namespace. */
	readonly root?: string;
	/** Only of those whose names are asked for. */
	readonly environment?: Readonly<Record<string, string>>;
};

/**
 * Those with one of the names. Arguments and environment are read of them alone: reading those of a process that hangs
 * in the memory of a dead disk can hang, too.
 */
export async function readProcesses(isWanted: (name: string) => boolean, signal: AbortSignal): Promise<Process[]> {
	const found: Process[] = [];
	const pids = (await readdir("/proc")).filter((name) => /^\d+$/.test(name)).map(Number);
	for (const pid of pids.sort((a, b) => a - b)) {
		signal.throwIfAborted();
		const name = (await readFile(`/proc/${pid}/comm`, "utf8").catch(() => "")).replace(/\n$/, "");
		if (name !== "" && isWanted(name)) found.push(await readProcess(pid, name));
	}
	return found;
}

async function readProcess(pid: number, name: string): Promise<Process> {
	const read = (file: string) => readFile(`/proc/${pid}/${file}`, "utf8").catch(() => "");
	const [stat, commandLine, environment, folder, root] = await Promise.all([
		read("stat"),
		read("cmdline"),
		read("environ"),
		readlink(`/proc/${pid}/cwd`).catch(() => undefined),
		readlink(`/proc/${pid}/root`).catch(() => undefined),
	]);
	const [own, its] = await Promise.all(
		["self", String(pid)].map((one) => readlink(`/proc/${one}/ns/mnt`).catch(() => undefined)),
	);
	return {
		pid,
		parent: parseProcessStat(stat).parent ?? 0,
		name,
		args: commandLine.split("\0").slice(0, -1),
		...(folder === undefined ? {} : { folder }),
		...(root === undefined ? {} : { root }),
		isElsewhere: own !== its,
		environment: Object.fromEntries(
			environment.split("\0").flatMap((one) => {
				const at = one.indexOf("=");
				return at < 1 ? [] : [[one.slice(0, at), one.slice(at + 1)]];
			}),
		),
	};
}

/** The value of `--name value`, `--name=value` or `-n value`. */
export function findArgument(args: readonly string[], ...names: readonly string[]): string | undefined {
	for (const [index, one] of args.entries())
		for (const name of names) {
			if (one === name) return args[index + 1];
			if (one.startsWith(`${name}=`)) return one.slice(name.length + 1);
		}
	return undefined;
}

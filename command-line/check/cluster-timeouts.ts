/** Cluster software that may take a machine whose disks are held for a dead one. */
import { readFile } from "node:fs/promises";
import type { Finding } from "../../contracts/check.ts";
import { humanMs } from "../output.ts";
import { findArgument, type Process } from "./processes.ts";

/** Corosync 3.1: token 3000 ms, and 650 ms more for each node above two. */
const corosyncDefaults = { tokenMs: 3_000, coefficientMs: 650 };
const etcdDefaultMs = 1_000;

export const clusterPrograms = ["corosync", "etcd"];

export type ClusterFacts = {
	readonly processes: readonly Process[];
	/** Of each corosync, by its pid: its file, where that could be read. */
	readonly corosyncFiles: ReadonlyMap<number, string>;
	/** Of each etcd that names a file, by its pid. */
	readonly etcdFiles: ReadonlyMap<number, string>;
	readonly holdLimitMs: number;
};

export async function readClusterFindings(processes: readonly Process[], holdLimitMs: number): Promise<Finding[]> {
	const corosyncFiles = new Map<number, string>();
	for (const one of processes.filter(({ name }) => name === "corosync")) {
		const text = await readFile(corosyncFileOf(one), "utf8").catch(() => undefined);
		if (text !== undefined) corosyncFiles.set(one.pid, text);
	}
	const etcdFiles = new Map<number, string>();
	for (const one of processes.filter(({ name }) => name === "etcd")) {
		const file = etcdFileOf(one);
		if (file?.startsWith("/")) etcdFiles.set(one.pid, await readFile(file, "utf8").catch(() => ""));
	}
	return clusterFindings({ processes, corosyncFiles, etcdFiles, holdLimitMs });
}

export function clusterFindings({ processes, corosyncFiles, etcdFiles, holdLimitMs }: ClusterFacts): Finding[] {
	const found: { what: string; limitMs: number; remedy: string }[] = [];
	for (const one of processes.filter(({ name }) => name === "corosync")) {
		const file = corosyncFileOf(one);
		const text = corosyncFiles.get(one.pid);
		found.push({
			what: `corosync: token${text === undefined ? ` (${file} could not be read: its default)` : ""}`,
			limitMs: parseCorosyncTokenMs(text ?? ""),
			remedy: `Raise totem.token in ${file} above the hold, or put the node into maintenance for it.`,
		});
	}
	for (const one of processes.filter(({ name }) => name === "etcd"))
		found.push({
			what: "etcd: election timeout",
			limitMs: etcdElectionMs(one, etcdFiles.get(one.pid)),
			remedy: "Raise etcd's --election-timeout above the hold, or leave its data disk out of the order.",
		});
	return found.map(({ what, limitMs, remedy }) => {
		const isShort = limitMs < holdLimitMs;
		return {
			check: "cluster",
			status: isShort ? "warn" : "ok",
			what: `${what} ${humanMs(limitMs)}, a hold may last ${humanMs(holdLimitMs)} (holdLimitCapMs)`,
			...(isShort
				? {
						why: "Whoever waits for a disk that is held may be taken for dead.",
						remedy: `${remedy} Or lower holdLimitCapMs.`,
					}
				: {}),
		};
	});
}

/** The runtime value: `token` of the totem section, and `token_coefficient` for each node above two. */
export function parseCorosyncTokenMs(text: string): number {
	// Corosync refuses what does not fit into 32 bits.
	const number = (name: string) =>
		/^\d{1,10}$/.exec(new RegExp(`^\\s*${name}:\\s*(\\S+)`, "m").exec(text)?.[1] ?? "")?.[0];
	const nodes = text.match(/^\s*node\s*\{/gm)?.length ?? 0;
	const token = Number(number("token") ?? corosyncDefaults.tokenMs);
	const coefficient = Number(number("token_coefficient") ?? corosyncDefaults.coefficientMs);
	return token + Math.max(0, nodes - 2) * coefficient;
}

/** With a file etcd heeds neither flags nor variables; else a flag before its variable. In ms. */
export function etcdElectionMs({ args, environment = {} }: Process, file: string | undefined): number {
	const given =
		file === undefined
			? (findArgument(args, "--election-timeout", "-election-timeout") ?? environment["ETCD_ELECTION_TIMEOUT"])
			: /^\s*election-timeout:\s*["']?(\d+)/m.exec(file)?.[1];
	return given !== undefined && /^\d+$/.test(given) ? Number(given) : etcdDefaultMs;
}

/** corosync(8): `-c`, else its variable, else the usual one. */
function corosyncFileOf({ args, environment = {} }: Process): string {
	const named = findArgument(args, "-c") ?? environment["COROSYNC_MAIN_CONFIG_FILE"];
	return named?.startsWith("/") ? named : "/etc/corosync/corosync.conf";
}

function etcdFileOf({ args, environment = {} }: Process): string | undefined {
	return findArgument(args, "--config-file", "-config-file") ?? environment["ETCD_CONFIG_FILE"];
}

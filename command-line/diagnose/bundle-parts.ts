/** What stands in a bundle, part by part. Each has a deadline; one that fails says so in its place. */
import { open, readdir, readFile } from "node:fs/promises";
import { release } from "node:os";
import { join } from "node:path";
import { execa } from "execa";
import { checkConfig, showConfig } from "../../agent/check-config.ts";
import type { AgentFlags, Environment, LoadedConfig } from "../../agent/load-config.ts";
import { StillpointError } from "../../contracts/errors.ts";
import { version } from "../../contracts/version.ts";
import { checkTrust } from "../../extensions/vm-snapshot-linux/script-runner/prepare-applications.ts";
import { readApplications } from "../../extensions/vm-snapshot-linux/script-runner/read-applications.ts";
import { readBlockDevices } from "../../platform/linux/block-devices.ts";
import { checkMachine } from "../check/check-machine.ts";
import { makeCheckPlan } from "../check/check-plan.ts";
import { connectLocalAgent } from "../local-agent.ts";
import { readJournal } from "./read-journal.ts";

const logBytes = 512 * 1024;
const unitLimitMs = 5_000;

export type BundleSources = {
	readonly flags: AgentFlags;
	readonly environment: Environment;
	readonly folders: LoadedConfig["folders"];
	/** Absent: it has faults, which stand in config.json. */
	readonly loaded?: LoadedConfig;
	readonly disks: Parameters<typeof makeCheckPlan>[0]["disks"];
	readonly signal: AbortSignal;
};

export type BundlePart = {
	readonly name: string;
	readonly what: string;
	readonly limitMs: number;
	/** A text, or a document. */
	read(): Promise<unknown>;
};

export function bundleParts(given: BundleSources): BundlePart[] {
	const { folders, flags, environment, loaded, disks, signal } = given;
	const configured = () => {
		if (loaded === undefined)
			throw new StillpointError("config-invalid", "the configuration has faults: see config.json");
		return loaded;
	};
	const part = (name: string, what: string, read: () => Promise<unknown>, limitMs = 15_000): BundlePart => ({
		name,
		what,
		limitMs,
		read,
	});
	return [
		part("version.json", "versions of Stillpoint, Node, kernel and distribution", async () => ({
			stillpoint: version,
			node: process.version,
			architecture: process.arch,
			kernel: release(),
			distribution: await readFile("/etc/os-release", "utf8").catch(() => undefined),
		})),
		part("config.json", "every key of the configuration, and where it comes from; faults", async () => ({
			...(loaded === undefined ? {} : { values: valuesOf(await showConfig({ flags, environment })) }),
			...(await readFaults({ flags, environment })),
		})),
		part("status.json", "what the agent says of itself", () => ask(folders.runDir, "agent.status", signal)),
		part("extensions.json", "its extensions", () => ask(folders.runDir, "extensions.list", signal)),
		part(
			"check.json",
			"stillpoint check, without --try-freeze",
			() => checkMachine({ loaded: configured(), environment, disks, tryFreeze: false, signal, onStep() {} }),
			330_000,
		),
		part(
			"plan.json",
			"what a job would hold",
			async () => {
				const {
					targets,
					fileSystems,
					disks: all,
					uncovered,
					notCovered,
					fault,
				} = await makeCheckPlan({ loaded: configured(), disks, signal });
				return { targets, fileSystems, disks: all, uncovered, notCovered, fault };
			},
			45_000,
		),
		part("mountinfo.txt", "the mount table", () => readFile("/proc/self/mountinfo", "utf8")),
		part("block-devices.json", "disks, partitions and what is built of them", () => readBlockDevices()),
		part("scripts.json", "scripts that a job would run", async () => {
			const { applications, bad, notes, freezeDisabledBy } = await readApplications(configured().config, checkTrust);
			return {
				applications,
				bad: bad.map(({ error, ...one }) => ({ ...one, error: error.toJSON() })),
				notes,
				freezeDisabledBy,
			};
		}),
		part("drop-ins.json", "drop-in files of extensions; no protected settings", () =>
			readDropIns(configured().config.extensions.settingsFolder),
		),
		part("journal.json", "the latest jobs and their reports", async () => readJournal(folders.stateDir)),
		part("agent.log", "the end of the agent's log", () => readTail(join(folders.logDir, "agent.log"))),
		part("run-folder.txt", "names in the run folder", async () =>
			(await readdir(folders.runDir, { recursive: true })).sort().join("\n"),
		),
		part("units.txt", "state of our systemd units", readUnits),
	];
}

/** By their names, so that names tell what is secret. */
function valuesOf({ entries }: Awaited<ReturnType<typeof showConfig>>): Record<string, unknown> {
	return Object.fromEntries(entries.map(({ key, ...one }) => [key, one]));
}

async function readFaults(given: { flags: AgentFlags; environment: Environment }): Promise<Record<string, unknown>> {
	const { faults, ...checked } = await checkConfig(given);
	return { ...checked, faults: faults.map(({ key, ...one }) => ({ at: key, ...one })) };
}

async function ask(runFolder: string, call: "agent.status" | "extensions.list", signal: AbortSignal): Promise<unknown> {
	await using agent = await connectLocalAgent(runFolder, signal);
	return await agent.call(call, {}, { limitMs: 10_000 });
}

async function readDropIns(folder: string): Promise<unknown> {
	const names = (await readdir(folder).catch(() => [])).filter((name) => name.endsWith(".json")).sort();
	const read = async (name: string) => {
		try {
			const { protectedSettings, ...shown } = JSON.parse(await readFile(join(folder, name), "utf8"));
			return { ...shown, hasProtectedSettings: protectedSettings !== undefined };
		} catch {
			return "is no JSON object";
		}
	};
	return Object.fromEntries(await Promise.all(names.map(async (name) => [name, await read(name)] as const)));
}

/** Whole lines. */
async function readTail(path: string): Promise<string> {
	await using file = await open(path);
	const { size } = await file.stat();
	const from = Math.max(0, size - logBytes);
	const buffer = Buffer.alloc(size - from);
	const { bytesRead } = await file.read(buffer, 0, buffer.length, from);
	const text = buffer.toString("utf8", 0, bytesRead);
	return from === 0 ? text : text.slice(text.indexOf("\n") + 1);
}

/** Without their environment. */
async function readUnits(): Promise<string> {
	const properties =
		"Id,LoadState,ActiveState,SubState,Result,ExecMainStatus,NRestarts,ActiveEnterTimestamp,MemoryCurrent,FragmentPath,DropInPaths";
	const { stdout, stderr } = await execa(
		"systemctl",
		["show", "--no-pager", `--property=${properties}`, "stillpoint*"],
		{
			reject: false,
			timeout: unitLimitMs,
		},
	);
	return stdout || stderr || "there is no systemd here";
}

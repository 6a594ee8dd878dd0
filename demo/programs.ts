/** The controller and the agent as processes of their own, from the bundle. */
import { cp, mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { execa } from "execa";

export type Folders = {
	/** Of root alone, on a disk: images, state, recovery points. */
	base: string;
	/** On tmpfs: the agent's run folder. */
	run: string;
	/** The bundle. */
	dist: string;
};

export type Program = AsyncDisposable & {
	/** The document that it printed when it was ready. */
	readonly ready: Record<string, unknown>;
	readonly pid: number;
};

export function controllerFolder(folders: Folders): string {
	return join(folders.base, "controller");
}

export async function startController(folders: Folders, signal: AbortSignal): Promise<Program> {
	const words = ["controller", "run", "--state-dir", controllerFolder(folders), "--port", "0", "--json"];
	return startProgram("controller", entryOf(folders), words, signal);
}

/** Copies the shipped scripts, which share a kit, to a folder that only root can change, as an admin would. */
export async function writeAgentConfiguration(
	folders: Folders,
	databasePath: string,
	cover: string[],
): Promise<string> {
	const etc = join(folders.base, "etc");
	const scripts = join(folders.base, "scripts");
	await mkdir(join(etc, "scripts.d"), { recursive: true, mode: 0o700 });
	await cp(join(folders.dist, "scripts"), scripts, { recursive: true });
	const dropIn = {
		version: 1,
		application: "orders-db",
		order: 50,
		session: { command: [join(scripts, "sqlite", "sqlite-hold.mjs"), databasePath], deadlineMs: 10_000 },
	};
	await writeFile(join(etc, "scripts.d", "50-orders-db.json"), JSON.stringify(dropIn), { mode: 0o600 });
	const config = {
		version: 1,
		scriptsFolder: join(etc, "scripts.d"),
		// The machine that runs the demo is not its subject: whatever an order says, only scratch is frozen.
		fileSystems: { include: cover.map((mountPoint) => ({ mountPoint })) },
	};
	const path = join(etc, "agent.json");
	await writeFile(path, JSON.stringify(config, undefined, "\t"), { mode: 0o600 });
	return path;
}

export async function enrolAgent(
	folders: Folders,
	controllerUrl: string,
	token: string,
	signal: AbortSignal,
): Promise<string> {
	const words = [
		"agent",
		"enrol",
		"--controller",
		controllerUrl,
		"--token",
		token,
		"--state-dir",
		join(folders.base, "agent"),
		"--json",
	];
	const { stdout } = await execa(process.execPath, [entryOf(folders), ...words], { cancelSignal: signal });
	return (JSON.parse(stdout) as { agentId: string }).agentId;
}

export async function startGuard(folders: Folders, signal: AbortSignal): Promise<Program> {
	return startProgram("guard", entryOf(folders), ["guard", "run", "--run-dir", folders.run, "--json"], signal);
}

export async function startAgent(folders: Folders, config: string, signal: AbortSignal): Promise<Program> {
	const places = [
		"--state-dir",
		join(folders.base, "agent"),
		"--log-dir",
		join(folders.base, "log"),
		"--run-dir",
		folders.run,
	];
	const words = ["agent", "run", "--config", config, ...places, "--json"];
	return startProgram("agent", entryOf(folders), words, signal, agentNodeFlags);
}

function entryOf(folders: Folders): string {
	return join(folders.dist, "stillpoint.mjs");
}

/** As README runs it: what the start needs for a moment does not stay resident (8 to 10 MiB less). */
export const agentNodeFlags = ["--max-semi-space-size=2"];

/** Starts `stillpoint` from `entry`. The program gets SIGTERM when this process dies, whatever it dies of. */
export async function startProgram(
	name: string,
	entry: string,
	words: readonly string[],
	signal: AbortSignal,
	nodeFlags: readonly string[] = [],
): Promise<Program> {
	const command = [process.execPath, ...nodeFlags, entry, ...words];
	const child = execa("setpriv", ["--pdeathsig", "TERM", ...command], {
		reject: false,
		stdin: "ignore",
		// A process group of its own: an interrupt at the terminal reaches the demo, which then stops its programs in order.
		detached: true,
		cleanup: true,
		buffer: { stdout: false },
	});
	const { pid, stdout } = child;
	if (pid === undefined || stdout === null) throw new Error(`${name} could not be started`);
	const stop = async () => {
		child.kill("SIGTERM");
		const timer = setTimeout(() => child.kill("SIGKILL"), 15_000);
		await child;
		clearTimeout(timer);
	};
	const lines = createInterface({ input: stdout });
	const limit = AbortSignal.any([signal, AbortSignal.timeout(20_000)]);
	const first = await Promise.race([
		new Promise<string>((resolve) => lines.once("line", resolve)),
		child.then((result) => result.stderr ?? ""),
		new Promise<undefined>((resolve) => limit.addEventListener("abort", () => resolve(undefined), { once: true })),
	]);
	const ready = parseReady(first);
	if (ready === undefined) {
		await stop();
		signal.throwIfAborted();
		throw new Error(`${name} did not get ready: ${first ?? "no word in 20 s"}`);
	}
	return { ready, pid, [Symbol.asyncDispose]: stop };
}

function parseReady(line: string | undefined): Record<string, unknown> | undefined {
	try {
		const document = JSON.parse(line ?? "") as Record<string, unknown>;
		return "error" in document ? undefined : document;
	} catch {
		return undefined;
	}
}

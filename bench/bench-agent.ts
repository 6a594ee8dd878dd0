/** An agent of its own for a measurement, bundled or straight from the sources, with one clean file system to freeze. */
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { execa } from "execa";
import { connectController } from "../controller/client.ts";
import { readOperatorFiles } from "../controller/operator-files.ts";
import { agentNodeFlags, type Program, startProgram } from "../demo/programs.ts";
import { bundle } from "../demo/scratch-folders.ts";
import { startGuard } from "../test/fixtures/guard.ts";
import { type LoopFileSystem, makeLoopFileSystem } from "../test/fixtures/loop-file-system.ts";
import { makeSourceExtension } from "../test/fixtures/source-extension.ts";

export type Form = "bundled" | "unbundled";

export type BenchAgent = AsyncDisposable & {
	readonly program: Program;
	readonly runFolder: string;
	readonly fileSystem: LoopFileSystem;
	/** Kernel name of the disk that an order may name. */
	readonly disk: string;
};

const root = resolve(import.meta.dirname, "..");

export type BenchAgentOptions = {
	form: Form;
	/** With a controller of its own that it is enrolled with and connected to. */
	linked?: boolean;
	signal: AbortSignal;
};

export async function startBenchAgent({ form, linked = false, signal }: BenchAgentOptions): Promise<BenchAgent> {
	await using undo = new AsyncDisposableStack();
	const base = await mkdtemp("/var/lib/stillpoint-bench-");
	undo.defer(() => rm(base, { recursive: true, force: true }));
	const runFolder = await mkdtemp("/dev/shm/stillpoint-bench-");
	undo.defer(() => rm(runFolder, { recursive: true, force: true }));
	undo.use(startGuard({ dir: base, limitMs: 15 * 60_000, remove: [base, runFolder] }));
	const fileSystem = undo.use(await makeLoopFileSystem({ dir: base, fsType: "ext4", sizeMiB: 128, name: "clean" }));
	await mkdir(join(base, "scripts.d"));
	const config = {
		version: 1,
		scriptsFolder: join(base, "scripts.d"),
		extensions: { installFrom: [form === "bundled" ? await bundledPackage(base, signal) : makeSourceExtension(base)] },
		fileSystems: { include: [{ mountPoint: fileSystem.mountPoint }] },
	};
	const configPath = join(base, "agent.json");
	await writeFile(configPath, JSON.stringify(config), { mode: 0o600 });
	const entry = form === "bundled" ? join(base, "dist/stillpoint.mjs") : join(root, "command-line/stillpoint.ts");
	const places = ["--state-dir", join(base, "state"), "--log-dir", join(base, "log"), "--run-dir", runFolder];
	if (linked) await enrolWithController(entry, base, undo, signal);
	const program = undo.use(
		await startProgram(
			"agent",
			entry,
			["agent", "run", "--config", configPath, ...places, "--json"],
			signal,
			agentNodeFlags,
		),
	);
	const owned = undo.move();
	return {
		program,
		runFolder,
		fileSystem,
		disk: fileSystem.device.replace("/dev/", ""),
		[Symbol.asyncDispose]: () => owned.disposeAsync(),
	};
}

async function enrolWithController(
	entry: string,
	base: string,
	undo: AsyncDisposableStack,
	signal: AbortSignal,
): Promise<void> {
	const stateDir = join(base, "controller");
	const words = ["controller", "run", "--state-dir", stateDir, "--port", "0", "--json"];
	undo.use(await startProgram("controller", entry, words, signal));
	const access = await readOperatorFiles(stateDir);
	using client = connectController(access);
	const { token } = await client.createToken();
	const enrol = ["agent", "enrol", "--controller", access.url, "--token", token, "--state-dir", join(base, "state")];
	await execa(process.execPath, [entry, ...enrol], { cancelSignal: signal });
}

async function bundledPackage(base: string, signal: AbortSignal): Promise<string> {
	await bundle(join(base, "dist"), signal);
	return join(base, "dist/extensions/VMSnapshotLinux");
}

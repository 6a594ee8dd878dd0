/** An agent of its own for a measurement, bundled or straight from the sources. */
import { mkdir, writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { execa } from "execa";
import { connectLocalAgent } from "../command-line/local-agent.ts";
import { type ControllerAccess, connectController } from "../controller/client.ts";
import { readOperatorFiles } from "../controller/operator-files.ts";
import { agentNodeFlags, type Program, startProgram } from "../demo/programs.ts";
import { bundle } from "../demo/scratch-folders.ts";
import { makeSourceExtension } from "../test/fixtures/source-extension.ts";
import type { BenchFolders } from "./scratch-folders.ts";

export type Form = "bundled" | "unbundled";

export type BenchAgent = AsyncDisposable & {
	readonly program: Program;
	readonly runFolder: string;
	/** Of a linked agent: how an operator reaches its controller, and its id there. */
	readonly controller?: { readonly access: ControllerAccess; readonly agentId: string };
};

const extensionLimitMs = 30_000;
const root = resolve(import.meta.dirname, "..");

export type BenchAgentOptions = {
	form: Form;
	folders: BenchFolders;
	/** The only ones that it may freeze, whatever an order says. They need not be mounted yet. */
	mountPoints: readonly string[];
	/** With a controller of its own that it is enrolled with and connected to. */
	linked?: boolean;
	signal: AbortSignal;
};

/** One in each `folders`. */
export async function startBenchAgent(options: BenchAgentOptions): Promise<BenchAgent> {
	const { form, folders, mountPoints, linked = false, signal } = options;
	const { base, run } = folders;
	await using undo = new AsyncDisposableStack();
	await mkdir(join(base, "scripts.d"));
	const config = {
		version: 1,
		scriptsFolder: join(base, "scripts.d"),
		extensions: { installFrom: [form === "bundled" ? await bundledPackage(base, signal) : makeSourceExtension(base)] },
		fileSystems: { include: mountPoints.map((mountPoint) => ({ mountPoint })) },
	};
	const configPath = join(base, "agent.json");
	await writeFile(configPath, JSON.stringify(config), { mode: 0o600 });
	const entry = form === "bundled" ? join(base, "dist/stillpoint.mjs") : join(root, "command-line/stillpoint.ts");
	const places = ["--state-dir", join(base, "state"), "--log-dir", join(base, "log"), "--run-dir", run];
	const controller = linked ? await enrolWithController(entry, base, undo, signal) : undefined;
	const words = ["agent", "run", "--config", configPath, ...places, "--json"];
	const program = undo.use(await startProgram("agent", entry, words, signal, agentNodeFlags));
	await waitForExtension(run, signal);
	const owned = undo.move();
	return {
		program,
		runFolder: run,
		...(controller === undefined ? {} : { controller }),
		[Symbol.asyncDispose]: () => owned.disposeAsync(),
	};
}

/** It is installed after the agent is ready. */
async function waitForExtension(run: string, signal: AbortSignal): Promise<void> {
	const limit = AbortSignal.timeout(extensionLimitMs);
	await using client = await connectLocalAgent(run, signal);
	for (;;) {
		const { extensions } = await client.call("agent.status", {}, { limitMs: extensionLimitMs });
		if (extensions.some(({ state }) => state === "Enabled")) return;
		if (limit.aborted) throw new Error(`no extension was enabled: ${JSON.stringify(extensions)}`);
		await sleep(50, undefined, { signal });
	}
}

/** The freezer of the package that `startBenchAgent` bundled. */
export function bundledFreezer({ base }: BenchFolders): string {
	return join(base, "dist/extensions/VMSnapshotLinux/freezer.mjs");
}

async function enrolWithController(
	entry: string,
	base: string,
	undo: AsyncDisposableStack,
	signal: AbortSignal,
): Promise<{ access: ControllerAccess; agentId: string }> {
	const stateDir = join(base, "controller");
	const words = ["controller", "run", "--state-dir", stateDir, "--port", "0", "--json"];
	undo.use(await startProgram("controller", entry, words, signal));
	const access = await readOperatorFiles(stateDir);
	using client = connectController(access);
	const { token } = await client.createToken();
	const enrol = ["--controller", access.url, "--token", token, "--state-dir", join(base, "state"), "--json"];
	const { stdout } = await execa(process.execPath, [entry, "agent", "enrol", ...enrol], { cancelSignal: signal });
	return { access, agentId: (JSON.parse(stdout) as { agentId: string }).agentId };
}

async function bundledPackage(base: string, signal: AbortSignal): Promise<string> {
	await bundle(join(base, "dist"), signal);
	return join(base, "dist/extensions/VMSnapshotLinux");
}

/** One machine of the table or the sweep: a controller, an agent, and what it holds still. */
import { chmodSync, copyFileSync, cpSync, mkdirSync, readFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { enrol } from "../../../agent/link/enrolment.ts";
import { makeHttpsTransport } from "../../../agent/link/https-transport.ts";
import type { AgentStatus } from "../../../contracts/local-calls.ts";
import { type ControllerClient, connectController } from "../../../controller/client.ts";
import { readOperatorFiles } from "../../../controller/operator-files.ts";
import { readMachineIdentity } from "../../../platform/linux/machine-identity.ts";
import type { LocalChannelClient } from "../../../platform/local-channel.ts";
import {
	type AgentFoldersFixture,
	type AgentProcess,
	makeAgentFolders,
	startAgent,
} from "../../fixtures/agent-process.ts";
import { type ControllerProcess, startControllerProcess } from "../../fixtures/controller-process.ts";
import { startDatabaseProber } from "../../fixtures/database-prober.ts";
import { startGuard } from "../../fixtures/guard.ts";
import { type ProductGuard, startProductGuard } from "../../fixtures/product-guard.ts";
import { programs } from "../../fixtures/programs.ts";
import { makeSourceExtension } from "../../fixtures/source-extension.ts";
import { startSteadyWriter } from "../../fixtures/steady-writer.ts";
import { startTcpRelay, type TcpRelay } from "../../fixtures/tcp-relay.ts";
import { startWriteProber, type WriteProber } from "../../fixtures/write-prober.ts";
import { type LaneScripts, writeLaneScripts } from "./lane-scripts.ts";

/** What the agent of a lane holds still, and what of others lies beside it. */
export type Machine = AsyncDisposable & {
	/** Of each disk, for the controller's map. */
	readonly images: readonly { readonly disk: string; readonly imagePath: string }[];
	/** A folder on each file system that must be writable again. */
	readonly writable: readonly string[];
	/** Where the agent keeps state, logs and packages. Default: beside, on what is never frozen. */
	readonly stateFolder?: string | undefined;
	/** Where the programs of agent and extension lie. Default: beside. */
	readonly programsFolder?: string | undefined;
};

export type LaneOptions<M extends Machine> = {
	/** @param dir the lane's own folder, which a guard of the test watches */
	openMachine(dir: string): Promise<M>;
	/** The lane is given up after this. */
	limitMs: number;
	/** Added to the environment of the agent. */
	agentEnvironment?: (folders: AgentFoldersFixture) => Readonly<Record<string, string>>;
	/** Added to the environment of the extension. */
	extensionEnvironment?: (folders: AgentFoldersFixture) => Readonly<Record<string, string>>;
	/** Between agent and controller stands a relay. */
	relay?: boolean;
	/** The product's own guard runs beside the agent, and is started again when it ended. */
	guard?: boolean;
	/** Beside the probers, writers keep every writable folder busy. */
	writers?: boolean;
	/** In one of the writable folders lies a SQLite database that the jobs hold still. */
	database?: boolean;
};

export type Lane<M extends Machine = Machine> = AsyncDisposable & {
	readonly folders: AgentFoldersFixture;
	readonly machine: M;
	readonly scripts: LaneScripts;
	/** One of each writable folder. */
	readonly probers: readonly (WriteProber & { readonly folder: string })[];
	readonly database: WriteProber | undefined;
	readonly agentId: string;
	readonly agent: AgentProcess;
	readonly controller: ControllerProcess;
	readonly guard: ProductGuard | undefined;
	readonly relay: TcpRelay | undefined;
	readonly client: ControllerClient;
	readonly controllerState: string;
	status(): Promise<AgentStatus>;
	call: LocalChannelClient["call"];
	/** Starts again what has ended; it must have. Resolves when agent and controller are linked. */
	restart(): Promise<void>;
	/** As a service manager does, when it has ended. */
	restartGuard(): Promise<void>;
};

const linkLimitMs = 60_000;
const reloadEveryMs = 2_000;
const pollMs = 80;

export async function openLane<M extends Machine>(options: LaneOptions<M>): Promise<Lane<M>> {
	await using undo = new AsyncDisposableStack();
	const folders = undo.use(makeAgentFolders());
	const { root } = folders;
	undo.use(startGuard({ dir: root, limitMs: options.limitMs }));
	const machine = undo.use(await options.openMachine(root));
	const own = machine.stateFolder;
	if (own !== undefined) {
		folders.flags.stateDir = join(own, "state");
		folders.flags.logDir = join(own, "log");
	}
	if (own !== undefined) mkdirSync(own, { recursive: true });
	const entries = copyPrograms(machine.programsFolder);
	// A script finds no database by way of a process.
	const firstFolder = machine.writable.find((folder) => !folder.startsWith("/proc/"));
	const databasePath =
		options.database === true && firstFolder !== undefined ? join(firstFolder, "shop.sqlite") : undefined;
	const database = databasePath === undefined ? undefined : undo.use(await startDatabaseProber(databasePath));
	const scripts = await writeLaneScripts(root, databasePath);
	const forExtension = Object.entries(options.extensionEnvironment?.(folders) ?? {});
	const node =
		forExtension.length === 0
			? "node"
			: ["/usr/bin/env", ...forExtension.map(([name, value]) => `${name}=${value}`), entries.node].join(" ");
	folders.writeConfig({
		extensions: { installFrom: [makeSourceExtension(root, node, entries.extension)] },
		scriptsFolder: scripts.folder,
	});
	const environment = { NODE_OPTIONS: "" };
	const agentEnvironment = { ...environment, ...options.agentEnvironment?.(folders) };
	// On tmpfs: copies into it are no load of the disk that the machines lie on.
	const controllerState = join(dirname(folders.flags.runDir), "controller");
	const limits = { lateReportMs: 2_000, answerMs: 5_000, reportMs: 30_000 };
	const now = { port: 0 } as {
		port: number;
		agent: AgentProcess;
		controller: ControllerProcess;
		operator: ControllerClient;
		guard?: ProductGuard;
		client?: LocalChannelClient;
	};
	const relay = options.relay === true ? undo.use(await startTcpRelay(() => now.port)) : undefined;

	async function startController(): Promise<void> {
		now.controller = await startControllerProcess({ stateDir: controllerState, port: now.port, limits }, environment);
		now.port = now.controller.info.port;
		now.operator?.[Symbol.dispose]();
		now.operator = connectController(await readOperatorFiles(controllerState));
	}
	async function connect(): Promise<LocalChannelClient> {
		now.client ??= await now.agent.connect(undefined, () => {
			delete now.client;
		});
		return now.client;
	}
	async function restartGuard(): Promise<void> {
		if (now.guard?.ended !== true) return;
		await now.guard[Symbol.asyncDispose]();
		now.guard = await startProductGuard(folders.flags.runDir);
	}
	async function untilLinked(agentId: string): Promise<void> {
		const beganMs = performance.now();
		for (let reloads = 0; performance.now() - beganMs < linkLimitMs; ) {
			const { link } = await (await connect()).call("agent.status", {});
			if (link.connected && (await now.operator.readAgent(agentId)).connected) return;
			// It would try again by itself, a little later with each attempt.
			if (performance.now() - beganMs >= reloads * reloadEveryMs) {
				reloads += 1;
				// Refused while something is frozen.
				await (await connect()).call("link.reload", {}).catch(() => undefined);
			}
			await sleep(pollMs);
		}
		throw new Error("agent and controller were not linked");
	}

	await Promise.all([
		startController(),
		startAgent(folders, agentEnvironment, [], entries).then((agent) => {
			now.agent = agent;
		}),
	]);
	undo.defer(() => now.controller[Symbol.asyncDispose]());
	undo.defer(() => now.operator[Symbol.dispose]());
	undo.defer(() => now.agent[Symbol.asyncDispose]());
	undo.defer(() => now.client?.[Symbol.asyncDispose]());
	if (options.guard === true) {
		now.guard = await startProductGuard(folders.flags.runDir);
		undo.defer(async () => await now.guard?.[Symbol.asyncDispose]());
	}
	const { token } = await now.operator.createToken();
	const { agentId } = await enrol({
		controllerUrl: relay === undefined ? now.controller.info.url : `https://127.0.0.1:${relay.port}`,
		token,
		transport: makeHttpsTransport(undefined),
		stateDir: folders.flags.stateDir,
		machine: await readMachineIdentity(),
		signal: AbortSignal.timeout(30_000),
	});
	await untilLinked(agentId);
	await now.operator.mapDisks(
		agentId,
		machine.images.map(({ disk, imagePath }) => ({ name: disk, image: imagePath })),
	);
	const probers: Lane["probers"][number][] = [];
	for (const folder of machine.writable) probers.push({ ...undo.use(await startWriteProber(folder)), folder });
	if (options.writers === true) for (const folder of machine.writable) undo.use(await startSteadyWriter(folder));
	const owned = undo.move();

	return {
		folders,
		machine,
		scripts,
		probers,
		database,
		relay,
		agentId,
		controllerState,
		get client() {
			return now.operator;
		},
		get agent() {
			return now.agent;
		},
		get controller() {
			return now.controller;
		},
		get guard() {
			return now.guard;
		},
		restartGuard,
		status: async () => await (await connect()).call("agent.status", {}),
		call: async (...args) => await (await connect()).call(...args),
		async restart() {
			if (now.controller.child.exitCode !== null || now.controller.child.signalCode !== null) {
				await now.controller[Symbol.asyncDispose]();
				await startController();
			}
			if (now.agent.child.exitCode !== null || now.agent.child.signalCode !== null) {
				await now.client?.[Symbol.asyncDispose]();
				delete now.client;
				now.agent = await startAgent(folders, agentEnvironment, [], entries);
			}
			await restartGuard();
			await untilLinked(agentId);
		},
		[Symbol.asyncDispose]: () => owned.disposeAsync(),
	};
}

/** Node and the bundled programs, copied to where the agent's own lie. Sources run from where they are. */
function copyPrograms(folder: string | undefined): { node: string; program: string; extension: string } {
	const bundled = process.env["STILLPOINT_TEST_PROGRAMS"];
	const entries = { node: process.execPath, program: programs.agent(), extension: programs.extension() };
	if (folder === undefined || bundled === undefined) return entries;
	const copy = join(folder, "programs");
	cpSync(bundled, copy, { recursive: true });
	// The extension's `node` is the one beside the agent's.
	const node = join(copy, "node");
	copyFileSync(process.execPath, node);
	chmodSync(node, 0o755);
	return {
		node,
		program: join(copy, relative(bundled, entries.program)),
		extension: join(copy, relative(bundled, entries.extension)),
	};
}

/** The phase that the agent had noted for the job at that time, from its log and what it wrote while all was frozen. */
export function findPhaseAt(lane: Lane, jobId: string, at: Date): string | undefined {
	const { logDir, runDir } = lane.folders.flags;
	const text = [join(logDir, "agent.log"), join(runDir, "window.log")]
		.map((path) => readFileSync(path, "utf8"))
		.join("");
	const noted = [...text.matchAll(/^(\S+) debug \[job\] phase jobId=(\S+) phase=(\S+)$/gm)]
		.filter(([, , id]) => id === jobId)
		.map(([, time = "", , phase]) => ({ ms: Date.parse(time), phase }))
		.sort((a, b) => a.ms - b.ms);
	return noted.findLast(({ ms }) => ms <= at.getTime())?.phase;
}

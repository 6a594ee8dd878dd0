/** One machine of the table: a controller, an agent, a file system, and things of others beside it. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
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
import { freeze, type LoopFileSystem, makeLoopFileSystem, startGuard } from "../../fixtures/loop-file-system.ts";
import { makeSourceExtension } from "../../fixtures/source-extension.ts";
import { startWriteProber, type WriteProber } from "../../fixtures/write-prober.ts";
import { type LaneScripts, writeLaneScripts } from "./lane-scripts.ts";

export type Lane = AsyncDisposable & {
	readonly folders: AgentFoldersFixture;
	readonly fileSystem: LoopFileSystem;
	/** Frozen by somebody else; mounted by somebody else. */
	readonly foreign: LoopFileSystem;
	readonly scripts: LaneScripts;
	readonly prober: WriteProber;
	readonly agentId: string;
	readonly agent: AgentProcess;
	readonly controller: ControllerProcess;
	readonly client: ControllerClient;
	readonly controllerState: string;
	status(): Promise<AgentStatus>;
	call: LocalChannelClient["call"];
	/** Starts again what has ended; it must have. Resolves when agent and controller are linked. */
	restart(): Promise<void>;
};

const linkLimitMs = 60_000;
const reloadEveryMs = 2_000;
const pollMs = 80;

export async function openLane(): Promise<Lane> {
	await using undo = new AsyncDisposableStack();
	const folders = undo.use(makeAgentFolders());
	const { root } = folders;
	undo.use(startGuard({ dir: root, limitMs: 580_000 }));
	const disk = { dir: root, fsType: "ext4", mkfsArgs: ["-E", "lazy_itable_init=0"] } as const;
	const [fileSystem, foreign] = await Promise.all([
		makeLoopFileSystem({ ...disk, sizeMiB: 16, name: "machine" }),
		makeLoopFileSystem({ ...disk, sizeMiB: 8, name: "foreign" }),
	]);
	undo.use(fileSystem);
	undo.use(foreign);
	// What the agent keeps lies on what is frozen, as on a machine with one disk.
	folders.flags.stateDir = join(fileSystem.mountPoint, "state");
	folders.flags.logDir = join(fileSystem.mountPoint, "log");
	const scripts = writeLaneScripts(root);
	folders.writeConfig({
		extensions: { installFrom: [makeSourceExtension(root)] },
		scriptsFolder: scripts.folder,
	});
	const environment = { NODE_OPTIONS: "" };
	const controllerState = join(root, "controller");
	const limits = { lateReportMs: 2_000, answerMs: 5_000, reportMs: 30_000 };
	const now = { port: 0 } as {
		port: number;
		agent: AgentProcess;
		controller: ControllerProcess;
		operator: ControllerClient;
		client?: LocalChannelClient;
	};

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
		startAgent(folders, environment).then((agent) => {
			now.agent = agent;
		}),
	]);
	undo.defer(() => now.controller[Symbol.asyncDispose]());
	undo.defer(() => now.operator[Symbol.dispose]());
	undo.defer(() => now.agent[Symbol.asyncDispose]());
	undo.defer(() => now.client?.[Symbol.asyncDispose]());
	const { token } = await now.operator.createToken();
	const { agentId } = await enrol({
		controllerUrl: now.controller.info.url,
		token,
		transport: makeHttpsTransport(undefined),
		stateDir: folders.flags.stateDir,
		machine: await readMachineIdentity(),
		signal: AbortSignal.timeout(30_000),
	});
	await untilLinked(agentId);
	const name = fileSystem.device.replace("/dev/", "");
	await now.operator.mapDisks(agentId, [{ name, image: fileSystem.imagePath }]);
	await freeze(foreign.mountPoint);
	const prober = undo.use(await startWriteProber(fileSystem.mountPoint));
	const owned = undo.move();

	return {
		folders,
		fileSystem,
		foreign,
		scripts,
		prober,
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
				now.agent = await startAgent(folders, environment);
			}
			await untilLinked(agentId);
		},
		[Symbol.asyncDispose]: () => owned.disposeAsync(),
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

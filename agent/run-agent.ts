import { join } from "node:path";
import { StillpointError } from "../contracts/errors.ts";
import { readMachineIdentity } from "../platform/linux/machine-identity.ts";
import { composeAgent } from "./compose-agent.ts";
import { takeInstanceLock } from "./instance-lock.ts";
import { makeHttpsTransport } from "./link/https-transport.ts";
import type { ControllerTransport } from "./link/link-transport.ts";
import { type AgentFlags, type Environment, loadConfig } from "./load-config.ts";
import { openLog } from "./log.ts";
import { makeLogFile } from "./log-file.ts";
import { preparePrivateFolder } from "./private-folder.ts";
import { runParts } from "./run-parts.ts";
import { thawEarlierLife } from "./start-recovery.ts";
import { makeWriteHold } from "./write-hold.ts";

export type RunAgentOptions = {
	readonly flags: AgentFlags;
	readonly environment: Environment;
	/** Ends the agent: a running job is undone and thawed, its report recorded. */
	readonly stopping: AbortSignal;
	/** Calls are answered from here on. */
	onReady(): void;
	/** Folders of extension packages that came with the program; installed beside `extensions.installFrom`. */
	readonly shippedExtensions?: readonly string[];
	/** The log cannot be written, once for each time that begins: the agent goes on without, and says it here. */
	onLogFault?(error: unknown): void;
	/** Default: HTTPS, through the proxy of the configuration. */
	readonly transport?: ControllerTransport;
};

/**
 * The agent, until `stopping`. Resolves after everything is undone and written.
 * The process should run with UV_THREADPOOL_SIZE of 16: a FITHAW that hangs holds a thread of the pool.
 * @throws what keeps it from starting (`config-invalid`, `already-running`, `state-unusable`, `journal-corrupt`, ...);
 * `stuck` when something may still be frozen at the end.
 */
export async function runAgent(options: RunAgentOptions): Promise<void> {
	if (process.platform !== "linux") throw new StillpointError("platform-unsupported", "the agent needs Linux");
	const { flags, stopping } = options;
	const loaded = await loadConfig({ flags, environment: options.environment });
	const { runDir, stateDir, logDir } = loaded.folders;
	await using undo = new AsyncDisposableStack();
	preparePrivateFolder(runDir);
	undo.use(takeInstanceLock(runDir));
	// Before any folder on a disk is touched: it could be frozen.
	const thawed = await thawEarlierLife(runDir, stopping);
	preparePrivateFolder(stateDir);
	preparePrivateFolder(logDir);
	const hold = makeWriteHold();
	const log = undo.use(
		openLog({
			level: loaded.config.log.level,
			onFault: (error) => options.onLogFault?.(error),
			hold,
			file: makeLogFile(join(logDir, "agent.log"), loaded.config.log.maxBytes),
			runDir,
		}),
	);
	const machine = await readMachineIdentity();
	const parts = composeAgent({
		loaded,
		hold,
		log,
		machine,
		thawed,
		shippedExtensions: options.shippedExtensions ?? [],
		transport: options.transport ?? makeHttpsTransport(loaded.config.controller.proxy),
		stopping,
	});
	for (const warning of loaded.warnings) log.warn(warning);
	log.info("agent starts", { pid: process.pid, ...loaded.folders });
	try {
		await runParts(parts, stopping, () => {
			log.info("agent is ready");
			options.onReady();
		});
	} catch (error) {
		// A stop during the start is no fault.
		if (!stopping.aborted || error !== stopping.reason) {
			log.error("agent failed", { error });
			throw error;
		}
	}
	log.info("agent ends");
	if (hold.held) throw new StillpointError("stuck", "the agent stopped while something may be frozen");
}

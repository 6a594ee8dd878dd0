/** What the commands of the handler contract do besides being ready, for a host that gives its tasks by settings. */
import { basename, dirname, join } from "node:path";
import { parseSequenceNumber } from "../../kit/instance-name.ts";
import { disableTasks } from "./disable-tasks.ts";
import { enableTask } from "./enable-task.ts";
import { loadGuestConfig } from "./guest-config.ts";
import { hadTasks, takeOverTasks } from "./task-store.ts";

/** Of the 300 s that some hosts give `disable`. */
const disableLimitMs = 240_000;
/** Of the host's environment: what a job may need to find its way out, and nothing else. */
const jobVariables =
	/^(PATH|LANG|TZ|NODE_EXTRA_CA_CERTS|SSL_CERT_(FILE|DIR)|UV_THREADPOOL_SIZE|AZURE_GUEST_AGENT_\w+)$/;

export type AzureCommandOptions = {
	readonly packageFolder: string;
	readonly configPath: string;
	/** This process's: the host speaks by it. */
	readonly environment: NodeJS.ProcessEnv;
	/** Program and words that run `azure-job N` of this extension. */
	readonly jobCommand: readonly [string, ...string[]];
	readonly check: () => Promise<void>;
	readonly now: () => Date;
};

/** What to say; undefined: there was nothing to do. */
export async function runAzureCommand(name: string, options: AzureCommandOptions): Promise<string | undefined> {
	const { packageFolder, environment } = options;
	if (name === "enable") {
		const { runFolder } = await loadGuestConfig(options.configPath);
		return await enableTask({
			...options,
			runFolder,
			sequenceNumber: parseSequenceNumber(environment["ConfigSequenceNumber"]),
			job: {
				command: options.jobCommand,
				environment: Object.fromEntries(Object.entries(environment).filter(([key]) => jobVariables.test(key))),
			},
		});
	}
	if (name === "disable" && (await hadTasks(packageFolder))) {
		const { runFolder } = await loadGuestConfig(options.configPath);
		return await disableTasks({ ...options, runFolder, limitMs: disableLimitMs });
	}
	if (name === "update") return await carryOver(options);
	return undefined;
}

async function carryOver({ packageFolder, environment }: AzureCommandOptions): Promise<string | undefined> {
	const from = environment["AZURE_GUEST_AGENT_UPDATING_FROM_VERSION"];
	if (from === undefined || !/^[\w.]{1,32}$/.test(from)) return undefined;
	const old = join(dirname(packageFolder), `${basename(packageFolder).replace(/-[\d.]+$/, "")}-${from}`);
	if (old === packageFolder) return undefined;
	return (await takeOverTasks(old, packageFolder)) ? `the tasks of version ${from} are known` : undefined;
}

/**
 * The extension VMSnapshotLinux: `node vm-snapshot-linux.ts snapshot`, and the handler commands of its manifest.
 * Imports little before the request is read: an order waits for every ms of the start.
 */
import { StillpointError } from "../../contracts/errors.ts";
import { readHostLine } from "../kit/host-line.ts";
import { useCompileCache } from "./compile-cache.ts";

const requestLimitMs = 10_000;

// A FITHAW that blocks keeps a thread of libuv's pool; libuv reads this when the pool is first used.
process.env["UV_THREADPOOL_SIZE"] ??= "64";

const [, program = "", command, ...words] = process.argv;
process.exitCode = await (command === "snapshot" ? snapshot() : command === "recover" ? recover() : handle(command));

async function snapshot(): Promise<number> {
	const signal = endBySignals();
	const line = readHostLine(process.stdin, requestLimitMs);
	await line.then(
		({ text }) => useCompileCache(text),
		() => undefined,
	);
	const { runVmSnapshot } = await import("./run-vm-snapshot.ts");
	return runVmSnapshot({ line, stdin: process.stdin, stderr: process.stderr, signal });
}

async function recover(): Promise<number> {
	const { runRecoverCommand } = await import("./recover.ts");
	return runRecoverCommand(process, requestLimitMs);
}

async function handle(name: string | undefined): Promise<number> {
	const { defaultConfigPath } = await import("./azure/guest-config.ts");
	const at = words.indexOf("--config");
	const configPath = (at < 0 ? undefined : words[at + 1]) ?? defaultConfigPath;
	const common = { packageFolder: process.cwd(), configPath, environment: process.env, stderr: process.stderr };
	if (name === "azure-job") {
		const signal = endBySignals();
		const { runAzureJobCommand } = await import("./azure/run-azure-job-command.ts");
		return runAzureJobCommand({ ...common, word: words.at(-1), signal });
	}
	const { runVmSnapshotHandler } = await import("./run-vm-snapshot-handler.ts");
	return runVmSnapshotHandler(name, {
		...common,
		jobCommand: [process.execPath, program, "azure-job", "--config", configPath],
		stdout: process.stdout,
	});
}

function endBySignals(): AbortSignal {
	const ending = new AbortController();
	for (const name of ["SIGTERM", "SIGINT", "SIGHUP"] as const) {
		process.on(name, () => ending.abort(new StillpointError("stopping", `ended by ${name}`)));
	}
	return ending.signal;
}

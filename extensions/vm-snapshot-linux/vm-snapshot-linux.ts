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

const command = process.argv[2];
process.exitCode = command === "snapshot" ? await snapshot() : await handle(command);

async function snapshot(): Promise<number> {
	const ending = new AbortController();
	for (const name of ["SIGTERM", "SIGINT", "SIGHUP"] as const) {
		process.on(name, () => ending.abort(new StillpointError("stopping", `ended by ${name}`)));
	}
	const line = readHostLine(process.stdin, requestLimitMs);
	await line.then(
		({ text }) => useCompileCache(text),
		() => undefined,
	);
	const { runVmSnapshot } = await import("./run-vm-snapshot.ts");
	return runVmSnapshot({ line, stdin: process.stdin, stderr: process.stderr, signal: ending.signal });
}

async function handle(name: string | undefined): Promise<number> {
	const { runVmSnapshotHandler } = await import("./run-vm-snapshot-handler.ts");
	return runVmSnapshotHandler(name, {
		packageFolder: process.cwd(),
		sequenceNumber: process.env["ConfigSequenceNumber"],
		stdout: process.stdout,
		stderr: process.stderr,
	});
}

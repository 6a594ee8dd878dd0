/**
 * What `stillpoint guard run` becomes: a program of its own, because it loads a tenth of the command line and stays for
 * as long as the machine runs. Arguments: the run folder, and `--json`.
 */
import { asStillpointError } from "../contracts/errors.ts";

// libuv reads it when the pool is first used.
process.env["UV_THREADPOOL_SIZE"] ??= "64";
const threads = Number(process.env["UV_THREADPOOL_SIZE"]) || 4;
const [, , runDir = "", ...words] = process.argv;
const json = words.includes("--json");

// No mount is kept busy by it.
process.chdir("/");
const stopping = new AbortController();
const ending = new AbortController();
for (const name of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
	process.on(name, () => {
		// Asked twice, it goes though something may be frozen.
		if (stopping.signal.aborted) ending.abort();
		stopping.abort();
	});
}

const { makeQuietOutput } = await import("../agent/guard/quiet-output.ts");
const { runGuard } = await import("../agent/guard/run-guard.ts");
const stdout = makeQuietOutput(1);
const stderr = makeQuietOutput(2);
try {
	await runGuard({
		runDir,
		threads,
		stopping: stopping.signal,
		ending: ending.signal,
		onContinued: (listener) => void process.on("SIGCONT", listener),
		onReady: () =>
			stdout.write(json ? `${JSON.stringify({ schemaVersion: 1, ready: true, pid: process.pid })}\n` : "guard ready\n"),
		say: (line) => stderr.write(`guard: ${line}\n`),
	});
} catch (thrown) {
	const error = asStillpointError(thrown);
	if (json) stdout.write(`${JSON.stringify({ schemaVersion: 1, error: error.toJSON() })}\n`);
	else
		stderr.write(`stillpoint: ${error.code}: ${error.traits.summary}\n  ${error.message}\n  ${error.traits.remedy}\n`);
	process.exitCode = error.traits.exit;
}
await Promise.all([stdout.end(1_000), stderr.end(1_000)]);

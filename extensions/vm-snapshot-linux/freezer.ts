/** The freezer process: commands on stdin, events on stdout, both pipes; see contracts/freezer-protocol.ts. */
import { runFreezerProcess } from "../../platform/linux/freezer/freezer-process.ts";

const ending = new AbortController();
for (const name of ["SIGTERM", "SIGINT", "SIGHUP"] as const) process.on(name, () => ending.abort());
// Whatever goes wrong in it, it thaws before it ends.
process.on("uncaughtException", (error) => {
	ending.abort();
	process.exitCode = 1;
	process.stderr.write(`${error.stack ?? error.message}\n`);
});
// As many as it was started with: libuv reads the same variable.
const threads = Number(process.env["UV_THREADPOOL_SIZE"] ?? 4);
process.exitCode = await runFreezerProcess({ threads, signal: ending.signal });

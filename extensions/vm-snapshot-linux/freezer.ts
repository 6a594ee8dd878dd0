/** The freezer process: `node freezer.ts`, commands on stdin, events on stdout, see contracts/freezer-protocol.ts. */
import { runFreezerProcess } from "../../platform/linux/freezer/freezer-process.ts";

const ending = new AbortController();
for (const name of ["SIGTERM", "SIGINT", "SIGHUP"] as const) process.on(name, () => ending.abort());
// Its threads are set when it is started: libuv reads the variable when the first call is made.
const threads = Number(process.env["UV_THREADPOOL_SIZE"] ?? 4);
process.exitCode = await runFreezerProcess({ threads, signal: ending.signal });

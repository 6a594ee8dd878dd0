import { Socket } from "node:net";
import type { exitStatuses } from "../../../contracts/errors.ts";
import { loadFreezeCalls, loadProcessCalls, setOomScore } from "../freeze-calls.ts";
import { findProcessIdentity } from "../process-identity.ts";
import { runFreezer } from "./freezer-program.ts";

/** The parts of the freezer put together over stdin and stdout, which must be pipes. Returns the exit status. */
export async function runFreezerProcess(options: {
	threads: number;
	signal: AbortSignal;
}): Promise<keyof typeof exitStatuses> {
	// process.stdout would write to a pipe synchronously: one that nobody reads would block the thaw.
	const input = new Socket({ fd: 0, readable: true, writable: false });
	const output = new Socket({ fd: 1, readable: false, writable: true });
	const [calls, processCalls] = await Promise.all([loadFreezeCalls(), loadProcessCalls()]);
	const self = findProcessIdentity(process.pid);
	if (self === undefined) throw new Error("/proc is not mounted");
	setOomScore(-1000);
	processCalls.forbidCoreDumps();
	const result = await runFreezer({
		input,
		output,
		calls,
		processCalls,
		self,
		threads: options.threads,
		signal: options.signal,
		nowMs: () => Number(process.hrtime.bigint()) / 1e6,
	});
	return result === "clean" ? 0 : 9;
}

import { StillpointError } from "../../contracts/errors.ts";
import { loadFreezeCalls } from "../../platform/linux/freeze-calls.ts";

/** @throws `platform-unsupported`, `root-required`, `tool-missing` when the native calls can't be loaded. */
export async function checkMachine(): Promise<void> {
	if (process.platform !== "linux") throw new StillpointError("platform-unsupported", `this is ${process.platform}`);
	if (process.geteuid?.() !== 0) throw new StillpointError("root-required", "freezing needs root");
	try {
		await loadFreezeCalls();
	} catch (cause) {
		throw new StillpointError("tool-missing", "koffi can't be loaded on this machine", { cause });
	}
}

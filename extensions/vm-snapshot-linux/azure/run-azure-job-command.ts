import { asStillpointError, StillpointError } from "../../../contracts/errors.ts";
import { useCompileCache } from "../compile-cache.ts";
import { loadGuestConfig } from "./guest-config.ts";

/** Azure's address of what lies below every machine. */
const wireAddress = "168.63.129.16";

/** The command `azure-job N`, which `enable` starts. Returns the exit status. */
export async function runAzureJobCommand(given: {
	readonly word: string | undefined;
	readonly packageFolder: string;
	readonly configPath: string;
	readonly environment: NodeJS.ProcessEnv;
	readonly signal: AbortSignal;
	readonly stderr: { write(text: string): unknown };
}): Promise<number> {
	try {
		if (!/^\d{1,10}$/.test(given.word ?? "")) throw new StillpointError("usage-invalid", "azure-job wants a number");
		const config = await loadGuestConfig(given.configPath);
		useCompileCache(JSON.stringify({ runFolder: config.runFolder }));
		const { runAzureJob } = await import("./run-azure-job.ts");
		await runAzureJob({
			packageFolder: given.packageFolder,
			sequenceNumber: Number(given.word),
			config,
			hostAddress: given.environment["AZURE_GUEST_AGENT_WIRE_PROTOCOL_ADDRESS"] || wireAddress,
			signal: given.signal,
			now: () => new Date(),
		});
		return 0;
	} catch (thrown) {
		const error = asStillpointError(thrown);
		given.stderr.write(`${error.message}\n`);
		return error.traits.exit;
	}
}

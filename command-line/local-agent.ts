import type { Command } from "commander";
import { connectLocalChannel } from "../platform/local-channel.ts";

export const defaultRunFolder = "/run/stillpoint";
export const agentSocketName = "agent.sock";

/** Options of every command that talks to the agent of this machine. */
export function addLocalAgentOptions(command: Command): Command {
	return command
		.option("--run-dir <folder>", "run folder of the agent", defaultRunFolder)
		.option("--json", "print one JSON document");
}

type Connect = Parameters<typeof connectLocalChannel>[0];

export function connectLocalAgent(
	runFolder: string,
	signal: AbortSignal,
	listeners: Pick<Connect, "onNotification" | "onClosed"> = {},
): ReturnType<typeof connectLocalChannel> {
	return connectLocalChannel({
		socketPath: `${runFolder}/${agentSocketName}`,
		connectLimitMs: 3_000,
		signal,
		...listeners,
	});
}

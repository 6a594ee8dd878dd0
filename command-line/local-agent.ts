import type { Command } from "commander";
import { StillpointError } from "../contracts/errors.ts";
import { readersSocketPath } from "../contracts/local-calls.ts";
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
type Client = ReturnType<typeof connectLocalChannel>;

/** @throws `root-required` for who is not root, naming the command that works. */
export async function connectLocalAgent(
	runFolder: string,
	signal: AbortSignal,
	listeners: Pick<Connect, "onNotification" | "onClosed"> & { command?: string } = {},
): Client {
	const { command, ...heard } = listeners;
	try {
		return await connectLocalChannel({
			socketPath: `${runFolder}/${agentSocketName}`,
			connectLimitMs: 3_000,
			signal,
			...heard,
		});
	} catch (error) {
		if (!isRefusal(error)) throw error;
		const what = `only root may talk to the agent; try: sudo stillpoint ${command ?? "..."}`;
		throw new StillpointError("root-required", what, { cause: error });
	}
}

/**
 * For commands that only read: who may not enter the run folder asks on the readers' socket.
 * @throws `root-required`, naming both ways: root, and the readers' group
 */
export async function connectToReadAgent(runFolder: string, command: string, signal: AbortSignal): Client {
	try {
		return await connectLocalAgent(runFolder, signal, { command });
	} catch (closed) {
		if (!(closed instanceof StillpointError) || closed.code !== "root-required") throw closed;
		try {
			const socketPath = readersSocketPath(runFolder);
			return await connectLocalChannel({ socketPath, connectLimitMs: 3_000, signal, isShared: true });
		} catch (cause) {
			if (!isRefusal(cause) && !isAbsent(cause)) throw cause;
			const group = isRefusal(cause)
				? "become a member of the group that the agent's configuration names as readersGroup"
				: "let root name a readersGroup in the agent's configuration";
			throw new StillpointError("root-required", `${closed.message}; to read without root, ${group}`, { cause });
		}
	}
}

function isRefusal(error: unknown): boolean {
	return error instanceof StillpointError && error.code === "not-allowed";
}

function isAbsent(error: unknown): boolean {
	return error instanceof StillpointError && error.code === "agent-unreachable";
}

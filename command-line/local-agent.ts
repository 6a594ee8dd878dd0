import { join } from "node:path";
import type { Command } from "commander";
import { StillpointError } from "../contracts/errors.ts";
import { localCalls, readersSocketPath } from "../contracts/local-calls.ts";
import { connectLocalChannel } from "../platform/local-channel.ts";
import type { CommandContext } from "./command-context.ts";
import { parsePath } from "./parse-path.ts";

export const defaultRunFolder = "/run/stillpoint";

/** As the agent of the same environment would have them. */
export function usualFolders({ environment }: Pick<CommandContext, "environment">) {
	return {
		stateDir: environment["STILLPOINT_STATE_DIR"] ?? "/var/lib/stillpoint",
		runDir: environment["STILLPOINT_RUN_DIR"] ?? defaultRunFolder,
	};
}

export const agentSocketName = "agent.sock";

/** Options of every command that talks to the agent of this machine. */
export function addLocalAgentOptions(command: Command, context: CommandContext): Command {
	return command
		.option("--run-dir <folder>", "run folder of the agent", parsePath, usualFolders(context).runDir)
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
		const socketPath = join(runFolder, agentSocketName);
		return namingSilence(await connectLocalChannel({ socketPath, connectLimitMs: 3_000, signal, ...heard }));
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
			return namingSilence(await connectLocalChannel({ socketPath, connectLimitMs: 3_000, signal, isShared: true }));
		} catch (cause) {
			if (!isRefusal(cause) && !isAbsent(cause)) throw cause;
			const group = isRefusal(cause)
				? "become a member of the group that the agent's configuration names as readersGroup"
				: "let root name a readersGroup in the agent's configuration";
			throw new StillpointError("root-required", `${closed.message}; to read without root, ${group}`, { cause });
		}
	}
}

/**
 * An agent that takes the connection and does not even say what it has in memory hangs, or was stopped: that a deadline
 * passed helps nobody.
 */
function namingSilence(client: Awaited<Client>): Awaited<Client> {
	const call: Awaited<Client>["call"] = async (name, params, options) => {
		try {
			return await client.call(name, params, options);
		} catch (cause) {
			const { needs, whileFrozen } = localCalls[name];
			if (!isDeadline(cause) || needs !== "read" || !whileFrozen) throw cause;
			const what = `it listens, but did not answer ${name} in time: it hangs or was stopped; end it and start it again`;
			throw new StillpointError("agent-unreachable", what, { cause, details: { call: name } });
		}
	};
	return { closed: client.closed, call, [Symbol.asyncDispose]: () => client[Symbol.asyncDispose]() };
}

function isDeadline(error: unknown): boolean {
	return error instanceof StillpointError && error.code === "deadline-passed";
}

function isRefusal(error: unknown): boolean {
	return error instanceof StillpointError && error.code === "not-allowed";
}

function isAbsent(error: unknown): boolean {
	return error instanceof StillpointError && error.code === "agent-unreachable";
}

/** What an extension author imports to answer `snapshotCommand`; see contracts/extension.ts. */
import type { Readable } from "node:stream";
import { worstError } from "../../contracts/errors.ts";
import type { SnapshotRequest } from "../../contracts/extension.ts";
import type { HostLine } from "./host-line.ts";
import { parseRequest } from "./parse-request.ts";
import { attachToHost, type ConnectHost, type SnapshotHost } from "./snapshot-host.ts";

export type { CommandOf } from "./command-inbox.ts";
export type { SnapshotHost } from "./snapshot-host.ts";

export type SnapshotCommand = {
	/** `readHostLine(stdin)`; its end is waited for and what it throws is told here. */
	readonly line: Promise<HostLine>;
	/** Destroyed at the end: an open stdin would keep the process alive. */
	readonly stdin: Readable;
	/** `connectLocalChannel` of platform/local-channel.ts. */
	readonly connect: ConnectHost;
	/** Aborted by signals to the process. */
	readonly signal: AbortSignal;
	/** Called as soon as the request is read, while the channel is still being connected: for what takes long to start. */
	readonly onRequest?: (request: SnapshotRequest) => void;
	/** Makes the snapshot and sends the report; see the contract. What it throws is told on stderr. */
	readonly work: (host: SnapshotHost) => Promise<void>;
	readonly stderr: { write(text: string): unknown };
};

/** Reads the request, attaches, works. Returns the exit status: 0 only when `work` returned. */
export async function runSnapshotCommand(command: SnapshotCommand): Promise<number> {
	try {
		const { text, hostGone } = await command.line;
		const request = parseRequest(text);
		command.onRequest?.(request);
		await using host = await attachToHost(request, { connect: command.connect, hostGone, signal: command.signal });
		await command.work(host);
		return 0;
	} catch (thrown) {
		const error = worstError(thrown);
		command.stderr.write(`${JSON.stringify({ error: error.toJSON() })}\n`);
		return error.traits.exit;
	} finally {
		command.stdin.destroy();
	}
}

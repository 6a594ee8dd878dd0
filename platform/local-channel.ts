/**
 * The agent's local channel: the table of `contracts/local-calls.ts` over a Unix socket. The one file that imports
 * node-ipc, and only in its profile "assured": in "fast" any peer can end the process with one frame, and in every
 * profile a handler that throws does, so every handler here is wrapped.
 *
 * Peers are not told apart by identity: the folder of the socket (0700 of root) is the gate. The readers' socket is the
 * exception: there the folder lets a group in ("assured" would close it, so its profile is "guarded"), the table says
 * what may be asked, and each peer and all of them together can hold only a little of our memory.
 */

import { chmodSync, chownSync, lstatSync, unlinkSync } from "node:fs";
import { connect as connectSocket, type Socket } from "node:net";
import { basename, dirname } from "node:path";
import { IPCModule } from "node-ipc";
import { checkShape } from "../contracts/check-shape.ts";
import { asStillpointError, StillpointError } from "../contracts/errors.ts";
import {
	type LocalCallInput,
	type LocalCallName,
	type LocalCallParams,
	type LocalCallResult,
	type LocalNotificationName,
	localCalls,
	localNotifications,
	localProtocolVersion,
} from "../contracts/local-calls.ts";
import {
	maxSocketPathBytes,
	maxWireMessageBytes,
	maxWirePendingBytes,
	schemaError,
	type WireCall,
	wireCallSchema,
	wireEvents,
	wireNotifySchema,
	wireReplySchema,
} from "./local-wire.ts";
import { within } from "./within.ts";

const probeLimitMs = 2_000;
const defaultCallLimitMs = 30_000;
/** Readers at a time: 8 hold less than 24 MiB of ours, whatever they do. */
const maxReaders = 8;
/** More may knock: for each the reader goes that has asked nothing for the longest time. */
const readersLimits = { maxMessageSize: 1024 * 1024, maxPendingBytes: 2 * 1024 * 1024, maxConnections: 2 * maxReaders };
const readerIdleMs = 10_000;
/** Calls of one reader that are being answered at a time. */
const callsPerReader = 4;

/** One connection. Calls of one connection start in the order of their arrival; answers come as they are ready. */
export type LocalCaller = {
	/** False when the connection is gone. A peer that does not read what it is told is cut off. */
	notify(name: LocalNotificationName, params: unknown): boolean;
	readonly closed: AbortSignal;
};

export type LocalHandlers = {
	[N in LocalCallName]: (params: LocalCallParams<N>, caller: LocalCaller) => Promise<LocalCallResult<N>>;
};

export type LocalChannelServerOptions = {
	/** Directly inside a folder of this user with mode 0700 (of readers: as the caller made it); on tmpfs. At most 107 bytes. */
	socketPath: string;
	/** Makes it a readers' socket of this group: calls that need `write` are refused with `not-allowed`. */
	readersGid?: number;
	handlers: LocalHandlers;
	/** While true, calls that are not `whileFrozen` are refused with `job-running`. */
	isFrozen(): boolean;
	/** Ends the server. */
	signal: AbortSignal;
	/** Faults of peers, for the log. */
	onPeerFault?(error: unknown): void;
};

/**
 * Listens. Refuses with `already-running` when somebody answers on the socket; a socket that nobody answers on is
 * replaced. Anything else at that path: `state-unusable`.
 */
export async function serveLocalChannel(options: LocalChannelServerOptions): Promise<AsyncDisposable> {
	const { socketPath, signal } = options;
	signal.throwIfAborted();
	await clearStaleSocket(socketPath);
	const isShared = options.readersGid !== undefined;
	const ipc = newIpc(dirname(socketPath), basename(socketPath), isShared);
	/** In the order of their last calls. */
	const callers = new Map<Socket, { caller: LocalCaller; close: AbortController; calls: number }>();
	ipc.serve(socketPath);
	const server = ipc.server;
	// A guest that is gone is no fault; whatever the library throws for a frame that does not fit is answered or dropped.
	const send = (socket: Socket, event: "reply" | "notify", data: unknown): boolean => {
		if (socket.destroyed || !callers.has(socket)) return false;
		server.emit(socket, event, data);
		return !socket.destroyed;
	};
	const reply = (socket: Socket, id: number, body: { result: unknown } | { error: StillpointError }) => {
		try {
			send(socket, "reply", "error" in body ? { id, error: wireError(body.error) } : { id, result: body.result });
		} catch (cause) {
			const large = cause instanceof Error && "code" in cause && cause.code === "ERR_IPC_FRAME_TOO_LARGE";
			const error = new StillpointError(large ? "message-too-large" : "internal", "the answer cannot be sent", {
				cause,
			});
			send(socket, "reply", { id, error: wireError(error) });
		}
	};
	server.on("connect", (socket: Socket) => {
		const close = new AbortController();
		const caller: LocalCaller = {
			notify: (name, params) => {
				try {
					return send(socket, "notify", { name, params });
				} catch (error) {
					options.onPeerFault?.(error);
					return false;
				}
			},
			closed: close.signal,
		};
		callers.set(socket, { caller, close, calls: 0 });
		if (!isShared) return;
		socket.setTimeout(readerIdleMs, () => socket.destroy());
		if (callers.size <= maxReaders) return;
		// The kernel knows whose a connection is, Node does not tell: so nobody keeps others out by being there.
		const [idle = socket] = [...callers].flatMap(([one, { calls }]) => (calls === 0 ? [one] : []));
		// Its end is told later than the next one may come.
		callers.get(idle)?.close.abort(new StillpointError("asker-lost", "another reader came"));
		callers.delete(idle);
		idle.destroy();
	});
	server.on("close", (socket: Socket) => {
		const known = callers.get(socket);
		callers.delete(socket);
		known?.close.abort(new StillpointError("asker-lost", "the connection ended"));
	});
	server.on("call", (data: unknown, socket: Socket) => {
		const known = callers.get(socket);
		if (known === undefined) return;
		const call = checkShape(wireCallSchema, data);
		if (!call.success) {
			options.onPeerFault?.(schemaError("a malformed call", call.error));
			socket.destroy();
			return;
		}
		if (isShared && known.calls >= callsPerReader) {
			const error = new StillpointError("rate-limited", `${callsPerReader} calls of this connection wait already`);
			reply(socket, call.data.id, { error });
			return;
		}
		known.calls += 1;
		callers.delete(socket);
		callers.set(socket, known);
		void answer(call.data, known.caller, options)
			.then(
				(result) => reply(socket, call.data.id, { result }),
				(error: unknown) => reply(socket, call.data.id, { error: asStillpointError(error) }),
			)
			.finally(() => {
				known.calls -= 1;
			});
	});
	await listening(server, options);
	if (options.readersGid !== undefined) chownSync(socketPath, process.getuid?.() ?? 0, options.readersGid);
	chmodSync(socketPath, isShared ? 0o660 : 0o600);
	let stopped = false;
	const stop = () => {
		if (stopped) return;
		stopped = true;
		server.stop();
	};
	signal.addEventListener("abort", stop, { once: true });
	if (signal.aborted) stop();
	return {
		[Symbol.asyncDispose]: () => {
			signal.removeEventListener("abort", stop);
			stop();
			return Promise.resolve();
		},
	};
}

async function answer(call: WireCall, caller: LocalCaller, options: LocalChannelServerOptions): Promise<unknown> {
	if (call.protocol !== localProtocolVersion)
		throw new StillpointError("version-unsupported", `local protocol ${call.protocol}, this agent speaks 1`);
	if (!Object.hasOwn(localCalls, call.name))
		throw new StillpointError("message-invalid", `unknown call "${call.name}"`, { details: { name: call.name } });
	const name = call.name as LocalCallName;
	const { input, output, needs, whileFrozen } = localCalls[name];
	if (options.readersGid !== undefined && needs !== "read")
		throw new StillpointError("not-allowed", `${name} needs root: the readers' socket only tells`);
	const params = checkShape(input, call.params);
	if (!params.success) throw schemaError(name, params.error);
	if (!whileFrozen && options.isFrozen())
		throw new StillpointError("job-running", `${name} is not answered while file systems are frozen`);
	const handler = options.handlers[name] as (params: unknown, caller: LocalCaller) => Promise<unknown>;
	const result = checkShape(output, await within(handler(params.data, caller), call.limitMs, name));
	if (!result.success) throw schemaError(`the answer of ${name}`, result.error, "internal");
	return result.data;
}

export type LocalChannelClient = AsyncDisposable & {
	/** Rejects with the agent's own error, `deadline-passed`, or `agent-unreachable` when the connection ends. */
	call<N extends LocalCallName>(
		name: N,
		params: LocalCallInput<N>,
		options?: { limitMs?: number; signal?: AbortSignal },
	): Promise<LocalCallResult<N>>;
	readonly closed: AbortSignal;
};

export type LocalChannelClientOptions = {
	socketPath: string;
	connectLimitMs: number;
	signal?: AbortSignal;
	/** A readers' socket, in a folder that is not ours. */
	isShared?: boolean;
	onNotification?(name: LocalNotificationName, params: unknown): void;
	/** Once, when the connection ended for any reason but disposal. */
	onClosed?(): void;
};

/** One attempt, no retry. `agent-unreachable` when nobody listens, `not-allowed` when the folder is closed to us. */
export async function connectLocalChannel(options: LocalChannelClientOptions): Promise<LocalChannelClient> {
	options.signal?.throwIfAborted();
	checkSocketPath(options.socketPath);
	const ipc = newIpc(dirname(options.socketPath), "agent", options.isShared === true);
	const waiting = new Map<number, { resolve(result: unknown): void; reject(error: unknown): void }>();
	const close = new AbortController();
	let nextId = 1;
	let ending = false;
	const connected = Promise.withResolvers<void>();
	ipc.connectTo("agent", options.socketPath);
	const client = ipc.of["agent"];
	if (client === undefined) throw new StillpointError("internal", "node-ipc made no client");
	const lost = (cause?: unknown) => {
		if (close.signal.aborted) return;
		const error = unreachable(options.socketPath, cause);
		connected.reject(error);
		close.abort(error);
		for (const one of waiting.values()) one.reject(error);
		waiting.clear();
		if (!ending) options.onClosed?.();
	};
	client.on("connect", () => connected.resolve());
	client.on("error", (error: unknown) => lost(error));
	client.on("disconnect", () => lost());
	client.on("reply", (data: unknown) => {
		const reply = checkShape(wireReplySchema, data);
		const one = reply.success ? waiting.get(reply.data.id) : undefined;
		if (!reply.success || one === undefined) return;
		waiting.delete(reply.data.id);
		const { error, result } = reply.data;
		if (error === undefined) one.resolve(result);
		else one.reject(new StillpointError(error.code, error.message, { details: error.details ?? {} }));
	});
	client.on("notify", (data: unknown) => {
		const message = checkShape(wireNotifySchema, data);
		if (!message.success || !Object.hasOwn(localNotifications, message.data.name)) return;
		try {
			options.onNotification?.(message.data.name as LocalNotificationName, message.data.params);
		} catch (error) {
			// A listener that throws would end the process inside the library's dispatcher.
			queueMicrotask(() => ipc.disconnect("agent"));
			lost(error);
		}
	});
	const end = () => {
		ending = true;
		ipc.disconnect("agent");
		lost();
	};
	try {
		await within(connected.promise, options.connectLimitMs, "connecting to the agent", options.signal);
	} catch (error) {
		end();
		throw asStillpointError(error).code === "deadline-passed" ? unreachable(options.socketPath, error) : error;
	}
	return {
		closed: close.signal,
		call: async (name, params, { limitMs = defaultCallLimitMs, signal } = {}) => {
			if (close.signal.aborted) throw close.signal.reason;
			const id = nextId++;
			const answered = Promise.withResolvers<unknown>();
			waiting.set(id, answered);
			try {
				// The agent answers a deadline of its own; ours comes a little later and only when the agent hangs.
				client.emit("call", { protocol: localProtocolVersion, id, name, params, limitMs: Math.ceil(limitMs) });
				const result = await within(answered.promise, limitMs + 250, name, signal);
				const checked = checkShape(localCalls[name].output, result);
				if (!checked.success) throw schemaError(`the answer of ${name}`, checked.error);
				return checked.data as LocalCallResult<typeof name>;
			} catch (error) {
				answered.promise.catch(() => {});
				if (error instanceof Error && "code" in error && error.code === "ERR_IPC_FRAME_TOO_LARGE")
					throw new StillpointError("message-too-large", `${name}: more than ${maxWireMessageBytes} bytes`);
				throw error;
			} finally {
				waiting.delete(id);
			}
		},
		[Symbol.asyncDispose]: () => {
			end();
			return Promise.resolve();
		},
	};
}

/** An instance of its own for each end: the library's singleton and its `of` are shared by the whole process. */
function newIpc(socketRoot: string, id: string, isShared: boolean) {
	const ipc = new IPCModule();
	Object.assign(ipc.config, {
		socketRoot,
		id,
		silent: true,
		parser: isShared ? "guarded" : "assured",
		allowedEvents: wireEvents,
		secureSocketRoot: !isShared,
		// Stale sockets are ours to judge: the library unlinks without asking whether another server listens.
		unlink: false,
		maxMessageSize: maxWireMessageBytes,
		maxPendingBytes: maxWirePendingBytes,
		messageTimeout: 10_000,
		maxConnections: 64,
		maxRetries: 0,
		stopRetrying: true,
		...(isShared ? readersLimits : {}),
	});
	return ipc;
}

function listening(server: IPCModule["server"], options: LocalChannelServerOptions) {
	const started = Promise.withResolvers<void>();
	server.on("start", () => started.resolve());
	server.on("error", (error: unknown) => {
		options.onPeerFault?.(error);
		started.reject(
			new StillpointError("state-unusable", `cannot listen on ${options.socketPath}: ${text(error)}`, { cause: error }),
		);
	});
	try {
		server.start();
	} catch (cause) {
		throw new StillpointError("state-unusable", `cannot listen on ${options.socketPath}: ${text(cause)}`, { cause });
	}
	return within(started.promise, probeLimitMs, "listening", options.signal);
}

function checkSocketPath(socketPath: string): void {
	if (Buffer.byteLength(socketPath) > maxSocketPathBytes)
		throw new StillpointError("state-unusable", `the path of the socket is longer than 107 bytes: ${socketPath}`);
}

async function clearStaleSocket(socketPath: string): Promise<void> {
	checkSocketPath(socketPath);
	const found = lstatSync(socketPath, { throwIfNoEntry: false });
	if (found === undefined) return;
	if (!found.isSocket()) throw new StillpointError("state-unusable", `${socketPath} exists and is no socket`);
	const probe = connectSocket({ path: socketPath });
	const answer = Promise.withResolvers<boolean>();
	probe.on("connect", () => answer.resolve(true));
	probe.on("error", (error: NodeJS.ErrnoException) =>
		error.code === "ECONNREFUSED" || error.code === "ENOENT" ? answer.resolve(false) : answer.reject(error),
	);
	try {
		// A full backlog neither connects nor refuses: somebody listens, though slowly.
		const live = await within(answer.promise, probeLimitMs, "probing the socket").catch(() => true);
		if (live) throw new StillpointError("already-running", `somebody answers on ${socketPath}`);
	} finally {
		probe.destroy();
	}
	unlinkSync(socketPath);
}

function wireError(error: StillpointError) {
	const shape = error.toJSON();
	return { ...shape, message: shape.message.slice(0, 4000) };
}

function unreachable(socketPath: string, cause?: unknown): StillpointError {
	const code = cause instanceof Error && "code" in cause ? cause.code : undefined;
	if (code === "EACCES" || code === "EPERM")
		return new StillpointError("not-allowed", `cannot open ${socketPath}: ${code}`, { cause });
	if (code === "ENOENT" || code === "ECONNREFUSED" || code === "ENOTDIR")
		return new StillpointError("agent-unreachable", `no agent listens on ${socketPath}`, { cause });
	return new StillpointError("agent-unreachable", `the connection to ${socketPath} ended${code ? `: ${code}` : ""}`, {
		...(cause === undefined ? {} : { cause }),
	});
}

function text(error: unknown): string {
	return error instanceof Error ? error.message : String(error);
}

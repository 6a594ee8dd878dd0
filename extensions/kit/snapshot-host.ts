import { checkShape } from "../../contracts/check-shape.ts";
import { asStillpointError, StillpointError } from "../../contracts/errors.ts";
import {
	aliveEveryMs,
	type ExtensionEvent,
	extensionCommandSchema,
	type SnapshotRequest,
} from "../../contracts/extension.ts";
import type { LocalCallInput, LocalCallResult, LocalNotificationName } from "../../contracts/local-calls.ts";
import { CommandInbox } from "./command-inbox.ts";

/** The host's local channel, as `connectLocalChannel` of the platform gives it. */
export type HostChannel = AsyncDisposable & {
	call<N extends "extension.attach" | "extension.event">(
		name: N,
		params: LocalCallInput<N>,
		options?: { limitMs?: number; signal?: AbortSignal },
	): Promise<LocalCallResult<N>>;
};
export type ConnectHost = (options: {
	socketPath: string;
	connectLimitMs: number;
	onNotification(name: LocalNotificationName, params: unknown): void;
	onClosed(): void;
}) => Promise<HostChannel>;

export type SnapshotHost = AsyncDisposable & {
	readonly request: SnapshotRequest;
	/** Aborts once, with the first reason to end: a `cancel`, the host gone, a signal to this process. */
	readonly ending: AbortSignal;
	readonly commands: CommandInbox;
	/** Resolves when the host has it. @throws when the host is gone or does not answer within the limit. */
	send(event: ExtensionEvent, limitMs?: number): Promise<void>;
};

const connectLimitMs = 5_000;
const sendLimitMs = 5_000;

/** Attaches to the host that wrote the request. Events go out in the order of `send`. */
export async function attachToHost(
	request: SnapshotRequest,
	options: { connect: ConnectHost; hostGone: Promise<void>; signal: AbortSignal },
): Promise<SnapshotHost> {
	const ending = new AbortController();
	const commands = new CommandInbox();
	const { token, socketPath } = request.channel;
	const { jobId } = request.order;
	const end = (code: "cancelled" | "stopping" | "asker-lost", what: string) =>
		ending.abort(new StillpointError(code, what));
	void options.hostGone.then(() => end("asker-lost", "the host is gone"));
	const onSignal = () => ending.abort(asStillpointError(options.signal.reason));
	options.signal.addEventListener("abort", onSignal, { once: true });
	if (options.signal.aborted) onSignal();

	const channel = await options.connect({
		socketPath,
		connectLimitMs,
		onNotification(name, params) {
			if (name !== "extension.command") return;
			const parsed = checkShape(extensionCommandSchema, params);
			// The host is as trusted as we are; what does not fit is another job's or another version's.
			if (!parsed.success || parsed.data.jobId !== jobId) return;
			if (parsed.data.type === "cancel") end(parsed.data.code, "the host cancelled the job");
			else commands.push(parsed.data);
		},
		onClosed: () => end("asker-lost", "the channel to the host ended"),
	});
	let sent: Promise<unknown> = channel.call("extension.attach", { token, jobId }, { limitMs: sendLimitMs });
	await sent;
	const tellAlive = () => {
		channel
			.call("extension.event", { token, event: { type: "alive", jobId } }, { limitMs: sendLimitMs })
			.catch(() => undefined);
	};
	tellAlive();
	const alive = setInterval(tellAlive, aliveEveryMs).unref();
	return {
		request,
		ending: ending.signal,
		commands,
		async send(event, limitMs = sendLimitMs) {
			// Calls of one connection begin in the order of their arrival, so nothing is waited for before the next is sent.
			const answered = channel.call("extension.event", { token, event }, { limitMs });
			sent = Promise.allSettled([sent, answered]);
			await answered;
		},
		async [Symbol.asyncDispose]() {
			options.signal.removeEventListener("abort", onSignal);
			clearInterval(alive);
			await sent.catch(() => undefined);
			await channel[Symbol.asyncDispose]();
		},
	};
}

import type { TLSSocket } from "node:tls";
import type { WebSocket } from "ws";

/** What the controller needs of a connection to an agent, whichever way it came. */
export type LinkSocket = {
	readonly isOpen: boolean;
	/** All that came, parts of frames too: a large frame on a slow line is a sign of life. */
	readonly bytesRead: number;
	/** What was sent and is not on its way yet. */
	readonly waitingBytes: number;
	send(text: string): void;
	ping(): void;
	/** Codes of RFC 6455, 7.4.1. */
	close(code: number, reason: string): void;
	/** At once, without a word. */
	terminate(): void;
	pause(): void;
	resume(): void;
	/** Called once. `frame` is undefined for one that is no text. */
	listen(on: {
		frame(text: string | undefined): void;
		alive(): void;
		broken(error: Error): void;
		closed(): void;
	}): void;
};

/** @param connection the one below the WebSocket. */
export function webSocketLink(socket: WebSocket, connection: Pick<TLSSocket, "bytesRead">): LinkSocket {
	return {
		get isOpen() {
			return socket.readyState === socket.OPEN;
		},
		get bytesRead() {
			return connection.bytesRead;
		},
		get waitingBytes() {
			return socket.bufferedAmount;
		},
		send: (text) => socket.send(text),
		ping: () => socket.ping(),
		close: (code, reason) => socket.close(code, reason),
		terminate: () => socket.terminate(),
		pause: () => socket.pause(),
		resume: () => socket.resume(),
		listen(on) {
			socket.on("message", (data, isBinary) => on.frame(isBinary ? undefined : data.toString()));
			socket.on("ping", on.alive);
			socket.on("pong", on.alive);
			socket.on("error", on.broken);
			socket.on("close", on.closed);
		},
	};
}

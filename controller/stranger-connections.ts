import type { Socket } from "node:net";
import { networkOf } from "./rate-limits.ts";

export type ConnectionLimits = {
	/** Connections that have shown no good certificate (yet), from one address (IPv6: one /64). */
	readonly unknownPerAddress: number;
	/** The same from everywhere. */
	readonly unknownInAll: number;
	/** So long a reader may take nothing of an answer that waits for it. */
	readonly readerMs: number;
};

/** 500 machines behind one address that enrol or reconnect in the same moment stay below; about 60 KB each. */
export const connectionLimits: ConnectionLimits = { unknownPerAddress: 1_024, unknownInAll: 4_096, readerMs: 60_000 };

export type StrangerConnections = {
	/** For each connection before it said anything. Where that is one too many, the oldest goes. */
	admit(socket: Socket): void;
	/** It has shown who it is, and counts no more. By the address and port of its other end. */
	release(socket: Pick<Socket, "remoteAddress" | "remotePort">): void;
};

/**
 * Bounds what anybody can take of memory and file descriptors by opening connections and saying nothing. The newest is
 * let in and the oldest goes, so that a flood leaves everybody else the time of a handshake.
 */
export function makeStrangerConnections(
	limits: ConnectionLimits,
	onCut: (address: string) => void,
): StrangerConnections {
	/** By address and port, the oldest first. */
	const open = new Map<string, { readonly socket: Socket; readonly network: string }>();
	const perNetwork = new Map<string, Set<string>>();

	function forget(key: string): void {
		const { network } = open.get(key) ?? {};
		if (network === undefined) return;
		open.delete(key);
		const own = perNetwork.get(network);
		own?.delete(key);
		if (own?.size === 0) perNetwork.delete(network);
	}

	function cut(key: string | undefined): void {
		const { socket, network } = (key === undefined ? undefined : open.get(key)) ?? {};
		if (key === undefined || socket === undefined || network === undefined) return;
		onCut(network);
		forget(key);
		socket.destroy();
	}

	return {
		admit(socket) {
			const key = keyOf(socket);
			const network = networkOf(socket.remoteAddress ?? "unknown");
			const own = perNetwork.get(network) ?? new Set();
			if (own.size >= limits.unknownPerAddress) cut(own.keys().next().value);
			if (open.size >= limits.unknownInAll) cut(open.keys().next().value);
			open.set(key, { socket, network });
			perNetwork.set(network, own.add(key));
			socket.once("close", () => {
				// The same port may be in use again.
				if (open.get(key)?.socket === socket) forget(key);
			});
		},
		release: (socket) => forget(keyOf(socket)),
	};
}

function keyOf({ remoteAddress, remotePort }: Pick<Socket, "remoteAddress" | "remotePort">): string {
	return `${remoteAddress} ${remotePort}`;
}

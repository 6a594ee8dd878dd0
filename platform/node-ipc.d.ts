/** The part of node-ipc 14 that `local-channel.ts` uses; the package ships no types. */
declare module "node-ipc" {
	import type { Socket } from "node:net";

	type Config = {
		socketRoot: string;
		id: string;
		silent: boolean;
		parser: "raw" | "fast" | "guarded" | "assured";
		allowedEvents: readonly string[] | false;
		maxMessageSize: number;
		maxPendingBytes: number;
		messageTimeout: number;
		maxConnections: number;
		maxRetries: number;
		stopRetrying: boolean;
		unlink: boolean;
		secureSocketRoot: boolean;
	};
	type Server = {
		start(): void;
		stop(): void;
		on(event: "start", listener: () => void): void;
		on(event: "error", listener: (error: unknown) => void): void;
		on(event: string, listener: (...args: never[]) => void): void;
		emit(socket: Socket, event: string, data: unknown): boolean;
	};
	type Client = {
		on(event: string, listener: (...args: never[]) => void): void;
		emit(event: string, data: unknown): boolean;
	};
	/** An instance of its own, unlike the package's default export. */
	export class IPCModule {
		config: Config;
		of: Record<string, Client | undefined>;
		server: Server;
		serve(path: string, callback?: () => void): void;
		connectTo(id: string, path: string, callback?: () => void): void;
		disconnect(id: string): void;
	}
}

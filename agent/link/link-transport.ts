/** What the link needs of a connection, so that it does not know WebSockets. */
export type LinkConnection = {
	/** False when the connection is gone or the other side does not read. */
	send(text: string): boolean;
	close(): void;
	/** Aborted when the connection ended; the reason says why. A dead peer is noticed within 5 s. */
	readonly closed: AbortSignal;
};

export type LinkTarget = {
	readonly url: string;
	readonly key: string;
	readonly certificate: string;
	readonly ca: string;
};

export type ConnectLink = (
	target: LinkTarget,
	on: { text(text: string): void },
	signal: AbortSignal,
) => Promise<LinkConnection>;

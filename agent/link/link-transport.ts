/**
 * How an agent reaches its controller. HTTPS and a WebSocket are one way; where a machine has no network it may be the
 * host's channel. The code of the link and of enrolment knows this interface only.
 */
export type ControllerTransport = {
	/**
	 * The certificate (PEM) of the controller's CA, whose SHA-256 is the fingerprint of a token. Sends nothing that is
	 * worth anything to a stranger. @throws `controller-unreachable`, `certificate-invalid`, `proxy-failed`
	 */
	findAuthority(url: URL, fingerprint: string, signal: AbortSignal): Promise<string>;
	/**
	 * A request of JSON without a certificate of ours, to a controller that this CA certified. Resolves with the body of
	 * a good answer. @throws what the controller says, `controller-unreachable`, `certificate-invalid`, `clock-wrong`,
	 * `proxy-failed`
	 */
	post(to: { readonly url: URL; readonly ca: string }, body: object, signal: AbortSignal): Promise<unknown>;
	readonly connect: ConnectLink;
};

/** Both sides are proved to each other when it resolves. @throws as `post`; a refusal comes with the controller's code. */
export type ConnectLink = (target: LinkTarget, signal: AbortSignal) => Promise<LinkConnection>;

export type LinkTarget = {
	readonly url: string;
	readonly key: string;
	readonly certificate: string;
	readonly ca: string;
};

export type LinkConnection = {
	/** Called once; what came before is told then. */
	listen(onText: (text: string) => void): void;
	/** False when the connection is gone or the other side does not read. */
	send(text: string): boolean;
	/** What was sent and is not on its way yet. */
	readonly waitingBytes: number;
	close(): void;
	/** Aborted when the connection ended; the reason says why. A dead peer is noticed within 5 s. */
	readonly closed: AbortSignal;
};

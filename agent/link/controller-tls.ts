import { isIP } from "node:net";
import { connect, type TLSSocket } from "node:tls";
import { StillpointError } from "../../contracts/errors.ts";
import { openProxyTunnel } from "./proxy-tunnel.ts";

const connectLimitMs = 10_000;
const dateErrors = ["CERT_NOT_YET_VALID", "CERT_HAS_EXPIRED"];

export type TlsTarget = {
	readonly url: URL;
	/** The only one that is trusted. Undefined: any server is good, and the caller looks at what it shows. */
	readonly ca: string | undefined;
	readonly key?: string;
	readonly certificate?: string;
	readonly proxy: URL | undefined;
};

/**
 * A TLS connection to the controller, proved to be it.
 * @throws `controller-unreachable`, `certificate-invalid`, `clock-wrong` naming both times, `proxy-failed`
 */
export async function connectTls(target: TlsTarget, signal: AbortSignal): Promise<TLSSocket> {
	const { url, ca, key, certificate } = target;
	const host = url.hostname.replace(/^\[|\]$/g, "");
	const port = Number(url.port || 443);
	const opened = Promise.withResolvers<void>();
	const unreachable = (why: string, cause?: unknown) =>
		opened.reject(new StillpointError("controller-unreachable", `${url.host}: ${why}`, { cause }));
	const tunnel =
		target.proxy === undefined ? undefined : await openProxyTunnel(target.proxy, `${host}:${port}`, signal);
	const limit = AbortSignal.any([signal, AbortSignal.timeout(connectLimitMs)]);
	const socket = connect({
		...(tunnel === undefined ? { host, port } : { socket: tunnel, host }),
		// SNI must not carry an address (RFC 6066).
		servername: isIP(host) === 0 ? host : "",
		minVersion: "TLSv1.3",
		// Judged below, because the certificate is needed to say what is wrong with it.
		rejectUnauthorized: false,
		...(ca === undefined ? {} : { ca }),
		...(key === undefined ? {} : { key }),
		...(certificate === undefined ? {} : { cert: certificate }),
	});
	const aborted = () => socket.destroy(new Error("it took too long"));
	limit.addEventListener("abort", aborted, { once: true });
	if (limit.aborted) aborted();
	socket.on("error", (cause) => unreachable(cause.message, cause));
	socket.on("close", () => unreachable("it hung up"));
	socket.on("secureConnect", () => opened.resolve());
	try {
		await opened.promise;
		if (ca !== undefined && !socket.authorized) throw describeDistrust(url, socket);
		return socket;
	} catch (error) {
		socket.destroy();
		tunnel?.destroy();
		throw error;
	} finally {
		limit.removeEventListener("abort", aborted);
	}
}

function describeDistrust(url: URL, socket: TLSSocket): StillpointError {
	const why = String(socket.authorizationError);
	if (!dateErrors.includes(why))
		return new StillpointError("certificate-invalid", `${url.host} is not the controller of the enrolment: ${why}`);
	const { valid_from: from, valid_to: to } = socket.getPeerCertificate();
	const [notBefore, notAfter] = [from, to].map((text) => new Date(text).toISOString());
	const here = new Date().toISOString();
	const what = `the clock here says ${here}, but the certificate of ${url.host} is good from ${notBefore} to ${notAfter}`;
	return new StillpointError("clock-wrong", what, { details: { here, notBefore, notAfter } });
}

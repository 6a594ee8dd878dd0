import { createHash } from "node:crypto";
import { connect, type DetailedPeerCertificate } from "node:tls";
import { StillpointError } from "../../contracts/errors.ts";

const connectLimitMs = 10_000;

/**
 * The controller's CA as PEM: the certificate in the chain that the server shows whose SHA-256 is the fingerprint of
 * the token. Nothing is sent on this connection; whether the server has the key of a certificate that this CA issued
 * is checked on the next one, where only this CA counts.
 * @throws `controller-unreachable`, `certificate-invalid`
 */
export async function findControllerCa(url: URL, fingerprint: string, signal: AbortSignal): Promise<string> {
	const found = Promise.withResolvers<string>();
	const host = url.hostname.replace(/^\[|\]$/g, "");
	const limit = AbortSignal.any([signal, AbortSignal.timeout(connectLimitMs)]);
	const socket = connect({
		host,
		port: Number(url.port || 443),
		rejectUnauthorized: false,
		servername: serverName(host),
	});
	const aborted = () => socket.destroy(new Error("it took too long"));
	limit.addEventListener("abort", aborted, { once: true });
	socket.on("error", (cause) =>
		found.reject(new StillpointError("controller-unreachable", `${url.origin}: ${cause.message}`, { cause })),
	);
	socket.on("close", () => found.reject(new StillpointError("controller-unreachable", `${url.origin}: it hung up`)));
	socket.on("secureConnect", () => {
		const ca = findInChain(socket.getPeerCertificate(true), fingerprint);
		if (ca === undefined)
			found.reject(
				new StillpointError("certificate-invalid", `${url.origin} does not show the CA that the token names`),
			);
		else found.resolve(ca);
	});
	try {
		return await found.promise;
	} finally {
		limit.removeEventListener("abort", aborted);
		socket.destroy();
	}
}

function findInChain(leaf: DetailedPeerCertificate, fingerprint: string): string | undefined {
	const seen = new Set<DetailedPeerCertificate>();
	for (let one: DetailedPeerCertificate | undefined = leaf; one?.raw && !seen.has(one); one = one.issuerCertificate) {
		seen.add(one);
		if (createHash("sha256").update(new Uint8Array(one.raw)).digest("hex") === fingerprint) return toPem(one.raw);
	}
	return undefined;
}

function toPem(der: Buffer): string {
	const lines = der.toString("base64").match(/.{1,64}/g) ?? [];
	return `-----BEGIN CERTIFICATE-----\n${lines.join("\n")}\n-----END CERTIFICATE-----\n`;
}

/** SNI must not carry an address (RFC 6066). */
function serverName(host: string): string {
	return /^[\d.]+$|:/.test(host) ? "" : host;
}

import { createHash } from "node:crypto";
import type { DetailedPeerCertificate } from "node:tls";
import { StillpointError } from "../../contracts/errors.ts";
import { connectTls } from "./controller-tls.ts";

/**
 * The controller's CA as PEM: the certificate in the chain that the server shows whose SHA-256 is the fingerprint of
 * the token. Nothing is sent on this connection; whether the server has the key of a certificate that this CA issued
 * is checked on the next one, where only this CA counts.
 * @throws `controller-unreachable`, `certificate-invalid`, `proxy-failed`
 */
export async function findControllerCa(
	{ url, proxy }: { readonly url: URL; readonly proxy: URL | undefined },
	fingerprint: string,
	signal: AbortSignal,
): Promise<string> {
	const socket = await connectTls({ url, proxy, ca: undefined }, signal);
	try {
		const ca = findInChain(socket.getPeerCertificate(true), fingerprint);
		if (ca !== undefined) return ca;
		throw new StillpointError("certificate-invalid", `${url.origin} does not show the CA that the token names`);
	} finally {
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

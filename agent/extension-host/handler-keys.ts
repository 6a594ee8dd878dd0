import { createHash, webcrypto, X509Certificate } from "node:crypto";
import { mkdir, readdir } from "node:fs/promises";
import { join } from "node:path";
import { findSmallFile } from "../../platform/read-small-file.ts";
import { loadX509 } from "../../platform/x509.ts";
import { replaceFile } from "./replace-file.ts";

/** A key pair that is one handler's alone; PEM files as Azure names them. */
export type HandlerKeys = { readonly thumbprint: string; readonly certificate: X509Certificate };

const signing = {
	name: "RSASSA-PKCS1-v1_5",
	hash: "SHA-256",
	modulusLength: 2048,
	publicExponent: new Uint8Array([1, 0, 1]),
};
const validMs = 20 * 365 * 86_400_000;
/** The clock of a machine may be set back. */
const backdatedMs = 365 * 86_400_000;

/**
 * The handler's keys, made at the first call: `<THUMB>.crt` and `<THUMB>.prv` in its view of /var/lib/waagent. THUMB is
 * the SHA-1 of the certificate's DER form in upper-case hex.
 */
export async function openHandlerKeys(stateView: string, name: string): Promise<HandlerKeys> {
	return (await findKeys(stateView)) ?? (await makeKeys(stateView, name));
}

export function thumbprintOf(certificate: X509Certificate): string {
	return createHash("sha1").update(certificate.raw).digest("hex").toUpperCase();
}

async function findKeys(stateView: string): Promise<HandlerKeys | undefined> {
	const is = { code: "state-unusable", limitBytes: 65_536, ownOnly: true, secret: true, refuseLinks: true } as const;
	for (const entry of await readdir(stateView).catch(() => [])) {
		const thumbprint = /^([0-9A-F]{40})\.crt$/.exec(entry)?.[1];
		if (thumbprint === undefined) continue;
		try {
			const certificate = new X509Certificate((await findSmallFile(join(stateView, entry), is)) ?? "");
			const key = await findSmallFile(join(stateView, `${thumbprint}.prv`), is);
			if (key !== undefined && thumbprintOf(certificate) === thumbprint) return { thumbprint, certificate };
		} catch {
			// Not a pair of ours, or a broken one: another is made.
		}
	}
	return undefined;
}

async function makeKeys(stateView: string, name: string): Promise<HandlerKeys> {
	const x509 = await loadX509();
	const keys = (await webcrypto.subtle.generateKey(signing, true, ["sign", "verify"])) as webcrypto.CryptoKeyPair;
	const made = await x509.X509CertificateGenerator.createSelfSigned(
		{
			name: [{ CN: [`stillpoint ${name}`] }],
			notBefore: new Date(Date.now() - backdatedMs),
			notAfter: new Date(Date.now() + validMs),
			signingAlgorithm: signing,
			keys,
		},
		webcrypto as unknown as Parameters<typeof x509.X509CertificateGenerator.createSelfSigned>[1],
	);
	const certificate = new X509Certificate(made.toString("pem"));
	const thumbprint = thumbprintOf(certificate);
	const key = Buffer.from(await webcrypto.subtle.exportKey("pkcs8", keys.privateKey)).toString("base64");
	const pem = `-----BEGIN PRIVATE KEY-----\n${key.replaceAll(/.{64}/g, "$&\n").trimEnd()}\n-----END PRIVATE KEY-----\n`;
	await mkdir(stateView, { recursive: true, mode: 0o700 });
	// The certificate last: it is what says that there are keys.
	await replaceFile(join(stateView, `${thumbprint}.prv`), pem);
	await replaceFile(join(stateView, `${thumbprint}.crt`), `${made.toString("pem")}\n`);
	return { thumbprint, certificate };
}

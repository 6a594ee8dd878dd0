import type { webcrypto } from "node:crypto";
import { createHash, createPrivateKey, hkdfSync, randomBytes } from "node:crypto";
import { mkdtemp, rename, rm } from "node:fs/promises";
import { isIP } from "node:net";
import { hostname } from "node:os";
import { dirname, join } from "node:path";
import { StillpointError } from "../contracts/errors.ts";
import { loadX509, type X509 } from "../platform/x509.ts";
import { makePrivateFolder, readFileIfThere, syncPath, writeDurably } from "./state-folder.ts";

const dayMs = 86_400_000;
/** Clocks of a machine that enrols and of the controller may differ by this much. */
const backdatedMs = 3_600_000;
const signing = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" };

const validity = { caMs: 3650 * dayMs, serverMs: 825 * dayMs, operatorMs: 365 * dayMs, agentMs: 90 * dayMs };
const operatorRenewedBeforeMs = 30 * dayMs;

/** PEM texts. */
export type KeyAndCertificate = { readonly key: string; readonly certificate: string };

/** Of a certificate that this authority issued; the serial number is hex, lower case. */
export type OwnCertificate = { readonly serial: string; readonly createdAt: string; readonly expiresAt: string };

export type CertificateAuthority = {
	/** PEM. */
	readonly certificate: string;
	/** SHA-256 of its DER form, hex: what an enrolment token carries. */
	readonly fingerprint: string;
	/** A new key and certificate; the chain holds the CA too, so that an agent can compare its fingerprint first. */
	issueServer(hosts: readonly string[]): Promise<KeyAndCertificate>;
	issueOperator(): Promise<KeyAndCertificate>;
	/** A client certificate (CN = name, OU = role) for the key of the request, as `issueAgent`. */
	issueCredential(
		name: string,
		role: "operator" | "viewer",
		csr: string,
		forMs: number,
	): Promise<{ readonly certificate: string } & OwnCertificate>;
	/**
	 * A client certificate (CN = agentId, OU = agent) for the key of the request. Of the request only the key counts;
	 * subject and extensions are ours. `certificate-invalid` when its signature does not prove the key.
	 */
	issueAgent(agentId: string, csr: string): Promise<string>;
	/** 32 bytes for another purpose than signing, the same for ever; they tell nothing of the key. */
	deriveSecret(purpose: string): Uint8Array;
};

/**
 * Opens the CA in the folder; makes it when there is none yet (the folder appears whole, by rename).
 * @param agentMs how long a certificate of an agent is good.
 */
export async function openCertificateAuthority(
	folder: string,
	agentMs: number = validity.agentMs,
): Promise<CertificateAuthority> {
	const x509 = await loadX509();
	const kept = (await readPair(folder)) ?? (await makeAuthority(x509, folder));
	try {
		const certificate = new x509.X509Certificate(kept.certificate);
		const key = await importKey(x509, kept.key);
		const probe = new Uint8Array(randomBytes(16));
		const publicKey = await certificate.publicKey.export();
		if (!(await crypto.subtle.verify(signing, publicKey, await crypto.subtle.sign(signing, key, probe), probe)))
			throw new Error("the key does not belong to the certificate");
		const { d = "" } = createPrivateKey(kept.key).export({ format: "jwk" });
		return {
			...makeIssuer(x509, certificate, key, agentMs),
			deriveSecret: (purpose) => new Uint8Array(hkdfSync("sha256", d, "", `stillpoint ${purpose}`, 32)),
		};
	} catch (error) {
		throw new StillpointError("state-unusable", `${folder} holds no usable certificate authority`, { cause: error });
	}
}

function makeIssuer(
	x509: X509,
	ca: InstanceType<X509["X509Certificate"]>,
	caKey: webcrypto.CryptoKey,
	agentMs: number,
): Omit<CertificateAuthority, "deriveSecret"> {
	const caPem = ca.toString("pem");

	async function issue(
		subject: object[],
		publicKey: webcrypto.CryptoKey,
		forMs: number,
		extensions: InstanceType<X509["Extension"]>[],
	) {
		const certificate = await x509.X509CertificateGenerator.create({
			serialNumber: newSerialNumber(),
			subject: subject as never,
			issuer: ca.subject,
			notBefore: new Date(Date.now() - backdatedMs),
			notAfter: new Date(Math.min(Date.now() + forMs, ca.notAfter.getTime())),
			signingAlgorithm: signing,
			publicKey,
			signingKey: caKey,
			extensions: [
				new x509.BasicConstraintsExtension(false, undefined, true),
				new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
				await x509.AuthorityKeyIdentifierExtension.create(ca.publicKey),
				...extensions,
			],
		});
		return certificate.toString("pem");
	}

	async function readRequestKey(csr: string): Promise<webcrypto.CryptoKey> {
		try {
			const request = new x509.Pkcs10CertificateRequest(csr);
			if (!(await request.verify())) throw new Error("its signature does not verify");
			const publicKey = await request.publicKey.export();
			const { name, namedCurve } = publicKey.algorithm as webcrypto.EcKeyAlgorithm;
			if (name !== "ECDSA" || !["P-256", "P-384"].includes(namedCurve))
				throw new Error(`its key is ${name}, not ECDSA P-256 or P-384`);
			return publicKey;
		} catch (error) {
			const why = error instanceof Error ? error.message : String(error);
			throw new StillpointError("certificate-invalid", `the certificate request was refused: ${why}`, { cause: error });
		}
	}

	const client = () => new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage.clientAuth], true);

	return {
		certificate: caPem,
		fingerprint: createHash("sha256").update(new Uint8Array(ca.rawData)).digest("hex"),
		async issueServer(hosts) {
			const keys = await makeKeys();
			const names = [...new Set(["localhost", "127.0.0.1", "::1", hostname(), ...hosts])].filter((host) => host !== "");
			const certificate = await issue([{ CN: ["stillpoint controller"] }], keys.publicKey, validity.serverMs, [
				new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage.serverAuth], true),
				new x509.SubjectAlternativeNameExtension(
					names.map((name) => ({ type: isIP(name) === 0 ? "dns" : "ip", value: name })),
				),
			]);
			return { key: await exportKey(x509, keys.privateKey), certificate: `${certificate}\n${caPem}\n` };
		},
		async issueOperator() {
			const keys = await makeKeys();
			const subject = [{ CN: ["operator"] }, { OU: ["operator"] }];
			const certificate = await issue(subject, keys.publicKey, validity.operatorMs, [client()]);
			return { key: await exportKey(x509, keys.privateKey), certificate: `${certificate}\n` };
		},
		async issueCredential(name, role, csr, forMs) {
			const publicKey = await readRequestKey(csr);
			const certificate = await issue([{ CN: [name] }, { OU: [role] }], publicKey, forMs, [client()]);
			return { certificate: `${certificate}\n`, ...describeOwn(new x509.X509Certificate(certificate)) };
		},
		async issueAgent(agentId, csr) {
			const publicKey = await readRequestKey(csr);
			return `${await issue([{ CN: [agentId] }, { OU: ["agent"] }], publicKey, agentMs, [client()])}\n`;
		},
	};
}

/** `key.pem` and `cert.pem` of the operator on this host; made when missing, of another CA or soon expired. */
export async function keepOperatorFiles(authority: CertificateAuthority, folder: string): Promise<OwnCertificate> {
	const x509 = await loadX509();
	// Half of it is what a kill during its renewal leaves.
	const kept = await readPair(folder).catch(() => undefined);
	if (kept !== undefined && (await isUsable(x509, kept, authority.certificate)))
		return describeOwn(new x509.X509Certificate(kept.certificate));
	const made = await authority.issueOperator();
	await writePair(folder, made);
	return describeOwn(new x509.X509Certificate(made.certificate));
}

function describeOwn(certificate: InstanceType<X509["X509Certificate"]>): OwnCertificate {
	return {
		serial: certificate.serialNumber.toLowerCase(),
		createdAt: certificate.notBefore.toISOString(),
		expiresAt: certificate.notAfter.toISOString(),
	};
}

async function isUsable(x509: X509, kept: KeyAndCertificate, ca: string): Promise<boolean> {
	try {
		const certificate = new x509.X509Certificate(kept.certificate);
		const { publicKey } = new x509.X509Certificate(ca);
		if (!(await certificate.verify({ publicKey, signatureOnly: true }))) return false;
		return certificate.notAfter.getTime() - Date.now() > operatorRenewedBeforeMs;
	} catch {
		return false;
	}
}

async function makeAuthority(x509: X509, folder: string): Promise<KeyAndCertificate> {
	const keys = await makeKeys();
	const certificate = await x509.X509CertificateGenerator.createSelfSigned({
		serialNumber: newSerialNumber(),
		name: `CN=Stillpoint controller CA ${randomBytes(4).toString("hex")}`,
		notBefore: new Date(Date.now() - backdatedMs),
		notAfter: new Date(Date.now() + validity.caMs),
		signingAlgorithm: signing,
		keys,
		extensions: [
			new x509.BasicConstraintsExtension(true, 0, true),
			new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign, true),
			await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
		],
	});
	const pair = { key: await exportKey(x509, keys.privateKey), certificate: `${certificate.toString("pem")}\n` };
	await writePair(folder, pair);
	return pair;
}

async function readPair(folder: string): Promise<KeyAndCertificate | undefined> {
	const key = await readFileIfThere(join(folder, "key.pem"));
	const certificate = await readFileIfThere(join(folder, "cert.pem"));
	if (key !== undefined && certificate !== undefined) return { key, certificate };
	if (key === undefined && certificate === undefined) return undefined;
	throw new StillpointError("state-unusable", `${folder} holds only one of key.pem and cert.pem`);
}

async function writePair(folder: string, pair: KeyAndCertificate): Promise<void> {
	await makePrivateFolder(dirname(folder));
	const temporary = await mkdtemp(`${folder}.new-`);
	await using undo = new AsyncDisposableStack();
	undo.defer(() => rm(temporary, { recursive: true, force: true }));
	await writeDurably(join(temporary, "key.pem"), pair.key);
	await writeDurably(join(temporary, "cert.pem"), pair.certificate);
	await syncPath(temporary);
	await rm(folder, { recursive: true, force: true });
	await rename(temporary, folder);
	await syncPath(dirname(folder));
}

async function makeKeys(): Promise<webcrypto.CryptoKeyPair> {
	return (await crypto.subtle.generateKey(signing, true, ["sign", "verify"])) as webcrypto.CryptoKeyPair;
}

async function exportKey(x509: X509, key: webcrypto.CryptoKey): Promise<string> {
	return `${x509.PemConverter.encode(await crypto.subtle.exportKey("pkcs8", key), "PRIVATE KEY")}\n`;
}

async function importKey(x509: X509, pem: string): Promise<webcrypto.CryptoKey> {
	const der = x509.PemConverter.decodeFirst(pem);
	return await crypto.subtle.importKey("pkcs8", der, signing, false, ["sign"]);
}

/** 128 random bits, positive (RFC 5280, 4.1.2.2). */
function newSerialNumber(): string {
	const bytes = randomBytes(16);
	bytes.writeUInt8((bytes.readUInt8(0) & 0x7f) | 0x40, 0);
	return bytes.toString("hex");
}

import { createPrivateKey, X509Certificate } from "node:crypto";
import { StillpointError } from "../../contracts/errors.ts";
import { loadX509 } from "../../platform/x509.ts";

const signing = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" };

/** A new key (PKCS #8) and the request for its certificate (PKCS #10), as PEM. */
export async function makeKeyAndRequest(): Promise<{ key: string; csr: string }> {
	const x509 = await loadX509();
	const keys = await crypto.subtle.generateKey(signing, true, ["sign", "verify"]);
	if (!("privateKey" in keys)) throw new StillpointError("internal", "no key pair");
	const csr = await x509.Pkcs10CertificateRequestGenerator.create({
		name: "CN=stillpoint agent",
		keys,
		signingAlgorithm: signing,
	});
	const key = x509.PemConverter.encode(await crypto.subtle.exportKey("pkcs8", keys.privateKey), "PRIVATE KEY");
	return { key: `${key}\n`, csr: csr.toString("pem") };
}

/** It must be for our key, our id and from the pinned CA, else the link could never come up. @throws `certificate-invalid` */
export function checkCertificate(certificate: string, own: { key: string; ca: string; agentId: string }): void {
	try {
		const received = new X509Certificate(certificate);
		const issuer = new X509Certificate(own.ca);
		if (!received.verify(issuer.publicKey)) throw new Error("it is not signed by the CA of the enrolment");
		if (!received.checkPrivateKey(createPrivateKey(own.key))) throw new Error("it is for another key");
		if (!received.subject.split("\n").includes(`CN=${own.agentId}`)) throw new Error("it is for another agent");
	} catch (cause) {
		const why = (cause as Error).message;
		throw new StillpointError("certificate-invalid", `the certificate that came: ${why}`, { cause });
	}
}

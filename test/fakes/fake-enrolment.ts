import { createHash, type webcrypto } from "node:crypto";
import { request } from "node:https";
import { connect } from "node:tls";
import { loadX509 } from "../../platform/x509.ts";

export type Enrolled = { agentId: string; cert: string; key: string; ca: string };
export type EnrolAnswer = {
	status: number;
	body: { agentId?: string; certificate?: string; ca?: string; error?: { code: string; message: string } };
};

const ecdsa = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" };
export const fakeMachine = { hostname: "fake", machineId: "m".repeat(32), platform: "linux" };

/** Key and request as an agent makes them; the subject is one that must be ignored. */
export async function makeKeyAndRequest(
	subject = "CN=operator,OU=operator",
	algorithm: webcrypto.EcKeyGenParams | webcrypto.RsaHashedKeyGenParams = ecdsa,
): Promise<{ key: string; csr: string }> {
	const x509 = await loadX509();
	const keys = (await crypto.subtle.generateKey(algorithm, true, ["sign", "verify"])) as webcrypto.CryptoKeyPair;
	const csr = await x509.Pkcs10CertificateRequestGenerator.create({ name: subject, keys, signingAlgorithm: algorithm });
	const key = x509.PemConverter.encode(await crypto.subtle.exportKey("pkcs8", keys.privateKey), "PRIVATE KEY");
	return { key, csr: csr.toString("pem") };
}

/** Enrols as an agent does: the CA in the handshake must be the one of the token before the token is sent. */
export async function enrolFakeAgent(url: string, token: string): Promise<Enrolled> {
	const { key, csr } = await makeKeyAndRequest();
	const ca = await readPresentedAuthority(url, token.split(".")[3] ?? "");
	const { status, body } = await postEnrol(url, ca, { token, csr, machine: fakeMachine });
	if (status !== 201 || !body.agentId || !body.certificate)
		throw new Error(`enrolment failed: ${JSON.stringify(body)}`);
	return { agentId: body.agentId, cert: body.certificate, key, ca };
}

export async function postEnrol(url: string, ca: string, content: unknown): Promise<EnrolAnswer> {
	const answer = await exchange(`${url}/v1/enrol`, { ca, method: "POST", body: JSON.stringify(content) });
	return { status: answer.status, body: JSON.parse(answer.text) };
}

export function exchange(
	url: string,
	{ body, ...options }: { ca: string; cert?: string; key?: string; method?: string; body?: string | Buffer },
): Promise<{ status: number; text: string }> {
	return new Promise((resolve, reject) => {
		const outgoing = request(url, { ...options, agent: false }, (incoming) => {
			const chunks: Buffer[] = [];
			incoming.on("data", (chunk) => chunks.push(chunk));
			incoming.on("end", () => resolve({ status: incoming.statusCode ?? 0, text: Buffer.concat(chunks).toString() }));
			incoming.on("error", reject);
		});
		outgoing.on("error", reject);
		outgoing.end(body);
	});
}

function readPresentedAuthority(url: string, fingerprint: string): Promise<string> {
	const { hostname, port } = new URL(url);
	return new Promise((resolve, reject) => {
		const socket = connect({ host: hostname, port: Number(port), rejectUnauthorized: false }, () => {
			const { issuerCertificate } = socket.getPeerCertificate(true);
			socket.destroy();
			const der = issuerCertificate?.raw;
			if (der === undefined || createHash("sha256").update(der).digest("hex") !== fingerprint)
				return reject(new Error("the controller's CA is not the one of the token"));
			const base64 = der.toString("base64").replaceAll(/.{64}/g, "$&\n");
			resolve(`-----BEGIN CERTIFICATE-----\n${base64}\n-----END CERTIFICATE-----\n`);
		});
		socket.on("error", reject);
	});
}

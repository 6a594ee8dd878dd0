import { createPrivateKey, X509Certificate } from "node:crypto";
import { request } from "node:https";
import { hostname } from "node:os";
import { enrolResponseSchema } from "../../contracts/controller-messages.ts";
import { asStillpointError, StillpointError } from "../../contracts/errors.ts";
import { errorShapeSchema } from "../../contracts/hold-protocol.ts";
import type { MachineIdentity } from "../../platform/linux/machine-identity.ts";
import { loadX509 } from "../../platform/x509.ts";
import { lastingIdentity } from "../machine-change.ts";
import { writeEnrolment } from "./enrolment-file.ts";
import { findControllerCa } from "./find-controller-ca.ts";

const maxAnswerBytes = 256 * 1024;
const signing = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" };
const tokenPattern = /^stillpoint1\.[^.]+\.[^.]+\.([0-9a-f]{64})$/;

export type EnrolOptions = {
	/** https only. */
	controllerUrl: string;
	/** `stillpoint1.ID.SECRET.SHA256-OF-CA-DER` */
	token: string;
	stateDir: string;
	machine: MachineIdentity;
	signal: AbortSignal;
};

/**
 * Makes a key and gets a certificate for it. The token's fingerprint decides which CA is trusted; the secret in it
 * is sent only to a server that this CA has certified for the host of the URL.
 * @throws `token-invalid`, `controller-unreachable`, `certificate-invalid`, `state-unusable`, or what the controller says.
 */
export async function enrol(options: EnrolOptions): Promise<{ agentId: string }> {
	const url = parseControllerUrl(options.controllerUrl);
	const fingerprint = tokenPattern.exec(options.token)?.[1];
	if (fingerprint === undefined) throw new StillpointError("token-invalid", "this is no enrolment token");
	const ca = await findControllerCa(url, fingerprint, options.signal);
	const { key, csr } = await makeKeyAndRequest();
	const { bootId, machineId } = options.machine;
	const machine = {
		hostname: hostname().slice(0, 255),
		bootId,
		platform: `${process.platform}-${process.arch}`,
		...(machineId === undefined ? {} : { machineId }),
	};
	const answer = await post(new URL("/v1/enrol", url), ca, { token: options.token, csr, machine }, options.signal);
	const response = enrolResponseSchema.safeParse(answer);
	if (!response.success) throw new StillpointError("message-invalid", `${url.origin} answered no enrolment`);
	const { agentId, certificate } = response.data;
	checkCertificate(certificate, key, ca);
	await writeEnrolment(options.stateDir, {
		version: 1,
		agentId,
		controllerUrl: url.origin,
		key,
		certificate,
		ca,
		enrolledAt: new Date().toISOString(),
		machine: lastingIdentity(options.machine),
	});
	return { agentId };
}

function parseControllerUrl(text: string): URL {
	const url = URL.parse(text);
	if (url === null || url.protocol !== "https:")
		throw new StillpointError("usage-invalid", `the controller's address must be an https URL: ${text}`);
	return url;
}

async function makeKeyAndRequest(): Promise<{ key: string; csr: string }> {
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

/** The certificate must be for our key and from the pinned CA, else the link could never come up. */
function checkCertificate(certificate: string, key: string, ca: string): void {
	try {
		const own = new X509Certificate(certificate);
		const issuer = new X509Certificate(ca);
		if (!own.verify(issuer.publicKey)) throw new Error("it is not signed by the CA of the token");
		if (!own.checkPrivateKey(createPrivateKey(key))) throw new Error("it is for another key");
	} catch (cause) {
		throw new StillpointError("certificate-invalid", `the certificate that came: ${(cause as Error).message}`, {
			cause,
		});
	}
}

function post(url: URL, ca: string, body: object, signal: AbortSignal): Promise<unknown> {
	const text = JSON.stringify(body);
	const answered = Promise.withResolvers<unknown>();
	const call = request(url, {
		method: "POST",
		ca,
		signal,
		agent: false,
		headers: { "content-type": "application/json", "content-length": Buffer.byteLength(text) },
	});
	call.on("error", (cause: NodeJS.ErrnoException) => {
		const isTrust = /CERT|SELF_SIGNED|ALTNAME|UNABLE_TO|ISSUER/.test(cause.code ?? "");
		const code = isTrust ? "certificate-invalid" : "controller-unreachable";
		answered.reject(new StillpointError(code, `${url.origin}: ${cause.message}`, { cause }));
	});
	call.on("response", (response) => {
		let received = "";
		response.setEncoding("utf8");
		response.on("data", (chunk: string) => {
			received += chunk;
			if (received.length > maxAnswerBytes) call.destroy(new Error("the answer is too large"));
		});
		response.on("error", (cause) => answered.reject(asStillpointError(cause)));
		response.on("end", () => {
			try {
				answered.resolve(parseAnswer(response.statusCode ?? 0, received, url));
			} catch (error) {
				answered.reject(error);
			}
		});
	});
	call.end(text);
	return answered.promise;
}

/** An error of the controller keeps its code; it comes as the error itself or below `error`. */
function parseAnswer(status: number, text: string, url: URL): unknown {
	let value: unknown;
	try {
		value = JSON.parse(text);
	} catch {
		value = undefined;
	}
	if (status === 200 || status === 201) return value;
	const inner = typeof value === "object" && value !== null && "error" in value ? value.error : value;
	const error = errorShapeSchema.safeParse(inner);
	if (error.success) throw new StillpointError(error.data.code, error.data.message);
	throw new StillpointError("controller-unreachable", `${url.origin} answered with status ${status}`);
}

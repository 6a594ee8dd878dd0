import { hostname } from "node:os";
import type { z } from "zod";
import { checkShape } from "../../contracts/check-shape.ts";
import {
	type enrolmentRequestSchema,
	enrolResponseSchema,
	type machineSchema,
} from "../../contracts/controller-messages.ts";
import { StillpointError } from "../../contracts/errors.ts";
import type { MachineIdentity } from "../../platform/linux/machine-identity.ts";
import { lastingIdentity } from "../machine-change.ts";
import { preparePrivateFolder } from "../private-folder.ts";
import { checkCertificate, makeKeyAndRequest } from "./certificate-request.ts";
import { type Enrolment, writeEnrolment } from "./enrolment-file.ts";
import type { ControllerTransport } from "./link-transport.ts";
import { removeTicket } from "./ticket-file.ts";

const tokenPattern = /^stillpoint1\.[^.]+\.[^.]+\.([0-9a-f]{64})$/;

export type EnrolOptions = {
	/** https only. */
	controllerUrl: string;
	/** `stillpoint1.ID.SECRET.SHA256-OF-CA-DER` */
	token: string;
	stateDir: string;
	machine: MachineIdentity;
	transport: ControllerTransport;
	signal: AbortSignal;
};

/**
 * Makes a key and gets a certificate for it. The token's fingerprint decides which CA is trusted; the secret in it
 * is sent only to a server that this CA has certified for the host of the URL.
 * @throws `token-invalid`, `controller-unreachable`, `proxy-failed`, `certificate-invalid`, `clock-wrong`,
 * `state-unusable`, or what the controller says.
 */
export async function enrol(options: EnrolOptions): Promise<{ agentId: string }> {
	const { transport, token, signal } = options;
	const url = parseControllerUrl(options.controllerUrl);
	const fingerprint = tokenPattern.exec(token)?.[1];
	if (fingerprint === undefined) throw new StillpointError("token-invalid", "this is no enrolment token");
	// A token is spent by its first use: what would fail afterwards fails before.
	preparePrivateFolder(options.stateDir);
	const ca = await transport.findAuthority(url, fingerprint, signal);
	const { key, csr } = await makeKeyAndRequest();
	const body = { token, csr, machine: describeMachine(options.machine) };
	const answer = await transport.post({ url: new URL("/v1/enrol", url), ca }, body, signal);
	const response = checkShape(enrolResponseSchema, answer);
	if (!response.success) throw new StillpointError("message-invalid", `${url.origin} answered no enrolment`);
	const { agentId, certificate } = response.data;
	checkCertificate(certificate, { key, ca, agentId });
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
	// Of a former agent id, or damaged: then the new enrolment would be of no use.
	await removeTicket(options.stateDir);
	return { agentId };
}

/** Asks a person at the known controller to enrol this machine. Nothing that proves the former identity is shown. */
export async function requestEnrolment(
	transport: ControllerTransport,
	former: Pick<Enrolment, "agentId" | "controllerUrl" | "ca">,
	given: { machine: MachineIdentity; reason: string; signal: AbortSignal },
): Promise<void> {
	const url = new URL("/v1/enrolment-requests", former.controllerUrl);
	const body: z.input<typeof enrolmentRequestSchema> = {
		machine: describeMachine(given.machine),
		formerAgentId: former.agentId.slice(0, 64),
		reason: given.reason.slice(0, 512),
	};
	await transport.post({ url, ca: former.ca }, body, given.signal);
}

/** What the controller is told of the machine. */
export function describeMachine(machine: MachineIdentity): z.infer<typeof machineSchema> {
	return {
		hostname: hostname().slice(0, 255),
		bootId: machine.bootId,
		platform: `${process.platform}-${process.arch}`,
		...lastingIdentity(machine),
	};
}

function parseControllerUrl(text: string): URL {
	const url = URL.parse(text);
	if (url === null || url.protocol !== "https:")
		throw new StillpointError("usage-invalid", `the controller's address must be an https URL: ${text}`);
	return url;
}

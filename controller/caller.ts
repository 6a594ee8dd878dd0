import type { TLSSocket } from "node:tls";
import { StillpointError } from "../contracts/errors.ts";

/** Who is at the other end, by its certificate. `nobody` may enrol, and nothing else. */
export type Caller =
	| { readonly role: "operator"; readonly name: string }
	| { readonly role: "agent"; readonly agentId: string }
	| { readonly role: "nobody" }
	| { readonly role: "untrusted"; readonly reason: string };

export function identifyCaller(socket: TLSSocket): Caller {
	const certificate = socket.getPeerCertificate();
	if (certificate?.subject === undefined) return { role: "nobody" };
	if (!socket.authorized) return { role: "untrusted", reason: String(socket.authorizationError) };
	const { CN: name, OU: unit } = certificate.subject;
	// A resumed session is not checked against the clock again.
	if (Date.parse(certificate.valid_to) < Date.now()) return { role: "untrusted", reason: "CERT_HAS_EXPIRED" };
	if (typeof name !== "string" || name === "") return { role: "untrusted", reason: "no common name" };
	if (unit === "operator") return { role: "operator", name };
	if (unit === "agent") return { role: "agent", agentId: name };
	return { role: "untrusted", reason: "no role" };
}

/** `certificate-invalid` or `not-allowed`. */
export function requireRole<R extends "operator" | "agent">(caller: Caller, role: R): Extract<Caller, { role: R }> {
	if (caller.role === role) return caller as Extract<Caller, { role: R }>;
	if (caller.role === "untrusted")
		throw new StillpointError("certificate-invalid", `the client certificate was refused: ${caller.reason}`);
	const what =
		caller.role === "nobody" ? "no client certificate was shown" : `this needs the certificate of an ${role}`;
	throw new StillpointError("not-allowed", what, { details: { role: caller.role } });
}

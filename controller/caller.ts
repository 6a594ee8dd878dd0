import type { TLSSocket } from "node:tls";
import { checkShape } from "../contracts/check-shape.ts";
import { StillpointError } from "../contracts/errors.ts";
import { idSchema } from "../contracts/order.ts";

/** Who shows a certificate of ours, by what stands in it. Whether it is still good is the store's to say. */
export type Holder = {
	readonly role: "operator" | "viewer" | "agent";
	readonly name: string;
	/** Hex, lower case. */
	readonly serial: string;
};

/** Who is at the other end, by its certificate. `nobody` showed none. */
export type Caller =
	| Holder
	| { readonly role: "nobody" }
	| {
			readonly role: "untrusted";
			readonly error: StillpointError;
			/** Of a certificate of ours that is no longer good. */
			readonly serial?: string;
	  };

const holderRoles: readonly string[] = ["operator", "viewer", "agent"] satisfies Holder["role"][];

export function identifyCaller(socket: TLSSocket): Caller {
	const certificate = socket.getPeerCertificate();
	if (certificate?.subject === undefined) return { role: "nobody" };
	if (!socket.authorized) return untrusted(String(socket.authorizationError));
	// A resumed session is not checked against the clock again.
	if (Date.parse(certificate.valid_to) < Date.now()) return untrusted("CERT_HAS_EXPIRED");
	const { CN: name, OU: role } = certificate.subject;
	// Two of either would be a list.
	if (typeof name !== "string" || !checkShape(idSchema, name).success) return untrusted("no common name");
	if (typeof role !== "string" || !holderRoles.includes(role)) return untrusted("no role");
	return { role: role as Holder["role"], name, serial: certificate.serialNumber.toLowerCase() };
}

function untrusted(reason: string): Caller {
	const error = new StillpointError("certificate-invalid", `the client certificate was refused: ${reason}`);
	return { role: "untrusted", error };
}

/** Which role a caller needs: `anybody` needs no certificate, `holder` any that is good, an agent's too. */
export type Access = "anybody" | "holder" | "viewer" | "operator" | "agent";

const rolesOf = {
	holder: ["agent", "viewer", "operator"],
	viewer: ["viewer", "operator"],
	operator: ["operator"],
	agent: ["agent"],
} as const satisfies Record<Exclude<Access, "anybody">, readonly Holder["role"][]>;

/** `certificate-invalid` or `not-allowed`. */
export function requireAccess(caller: Caller, access: Exclude<Access, "anybody">): Holder {
	if (caller.role === "untrusted") throw caller.error;
	const allowed: readonly string[] = rolesOf[access];
	if (caller.role !== "nobody" && allowed.includes(caller.role)) return caller;
	const what =
		caller.role === "nobody"
			? "no client certificate was shown"
			: `this needs a certificate with the role ${allowed.join(" or ")}, not ${caller.role}`;
	throw new StillpointError("not-allowed", what, { details: { role: caller.role } });
}

import type { z } from "zod";
import type { Credential, credentialRequestSchema, credentialResponseSchema } from "../contracts/controller-api.ts";
import { asStillpointError, StillpointError } from "../contracts/errors.ts";
import { requireAgentInForce } from "./agent-greeting.ts";
import type { Caller } from "./caller.ts";
import type { CertificateAuthority, OwnCertificate } from "./certificate-authority.ts";
import type { Store } from "./store.ts";

/** The credential of the controller's host. It lies in the state folder, and nobody is locked out while it is good. */
export const hostOperator = "operator";

export type Credentials = {
	/** `name-taken` when one of the name is in force, `certificate-invalid` for a request that is no good. */
	issue(request: z.output<typeof credentialRequestSchema>): Promise<z.output<typeof credentialResponseSchema>>;
	list(): Promise<Credential[]>;
	/** From here on it is refused. `not-found` when none is in force, `not-allowed` for that of the controller's host. */
	revoke(name: string): Promise<Credential>;
	/**
	 * The caller as it counts now: a credential that is unknown, replaced, revoked or expired is `untrusted`, and so is
	 * the certificate of an agent that is unknown or revoked. To be asked for every request: connections live long.
	 */
	check(caller: Caller): Promise<Caller>;
	/** In milliseconds since the epoch; undefined for a name that is not in force. */
	findExpiry(name: string): Promise<number | undefined>;
};

export function makeCredentials(
	store: Pick<Store, "addCredential" | "findAgent" | "findCredential" | "listCredentials" | "revokeCredential">,
	authority: CertificateAuthority,
	onRevoked: (name: string) => void,
): Credentials {
	async function findFault({ role, name, serial }: Extract<Caller, { name: string }>) {
		if (role === "agent") return await requireAgentInForce(store, name).then(() => undefined, asStillpointError);
		const known = await store.findCredential(name);
		if (known === undefined || known.role !== role)
			return new StillpointError("certificate-invalid", `this controller does not know ${role} ${name}`);
		if (known.revokedAt !== undefined) return gone(name, `revoked at ${known.revokedAt}`);
		if (known.serial !== serial) return gone(name, `replaced at ${known.createdAt}`);
		if (Date.parse(known.expiresAt) > Date.now()) return undefined;
		return new StillpointError("certificate-invalid", `credential ${name} expired at ${known.expiresAt}`);
	}

	return {
		async issue({ name, role, validMs, csr }) {
			const taken = () => new StillpointError("name-taken", `credential ${name} is in force`);
			if (name === hostOperator) throw taken();
			const { certificate, serial, expiresAt } = await authority.issueCredential(name, role, csr, validMs);
			const now = new Date().toISOString();
			const credential = { name, role, serial, createdAt: now, expiresAt };
			if (!(await store.addCredential(credential, now))) throw taken();
			return { credential, certificate, ca: authority.certificate };
		},
		list: () => store.listCredentials(),
		async revoke(name) {
			if (name === hostOperator) {
				const what =
					"the credential of the controller's host is not revoked over the API; to replace it, remove the folder " +
					'"operator" in the state folder and start the controller again';
				throw new StillpointError("not-allowed", what);
			}
			if (!(await store.revokeCredential(name, new Date().toISOString())))
				throw new StillpointError("not-found", `no credential ${name} is in force`);
			onRevoked(name);
			return (await store.findCredential(name)) as Credential;
		},
		async check(caller) {
			if (caller.role === "nobody" || caller.role === "untrusted") return caller;
			const error = await findFault(caller);
			return error === undefined ? caller : { role: "untrusted", error, serial: caller.serial };
		},
		async findExpiry(name) {
			const known = await store.findCredential(name);
			return known === undefined || known.revokedAt !== undefined ? undefined : Date.parse(known.expiresAt);
		},
	};
}

/** For the start: the certificate that lies in the state folder is the one that is good. */
export async function keepHostOperator(store: Pick<Store, "replaceCredential">, kept: OwnCertificate): Promise<void> {
	const { serial, createdAt, expiresAt } = kept;
	await store.replaceCredential({ name: hostOperator, role: "operator", serial, createdAt, expiresAt });
}

function gone(name: string, how: string): StillpointError {
	return new StillpointError("certificate-revoked", `credential ${name} was ${how}`);
}

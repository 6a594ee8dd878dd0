import { randomBytes } from "node:crypto";
import type { z } from "zod";
import {
	enrolmentRequestSchema,
	enrolRequestSchema,
	type enrolResponseSchema,
	type tokenResponseSchema,
} from "../contracts/controller-messages.ts";
import { StillpointError } from "../contracts/errors.ts";
import type { CertificateAuthority } from "./certificate-authority.ts";
import { parseFields } from "./field-issue.ts";
import type { Store, StoredEnrolmentRequest } from "./store.ts";
import { formatToken, hashSecret, makeToken, parseToken } from "./tokens.ts";

export type Enrolment = {
	/** The secret is shown this once; the store keeps its hash. */
	makeToken(validMs: number): Promise<z.output<typeof tokenResponseSchema>>;
	/** `token-invalid` unless it could be used now; uses nothing. */
	requireUsableToken(text: string): Promise<void>;
	/** `token-invalid` says nothing of why; a request that is no good does not use the token up. */
	enrol(body: unknown): Promise<z.output<typeof enrolResponseSchema>>;
	/** Keeps who wants to be enrolled and why, for an operator to see. Anybody may ask, so nothing follows from it. */
	requestEnrolment(body: unknown, address: string): Promise<StoredEnrolmentRequest>;
};

export function makeEnrolment(store: Store, authority: CertificateAuthority): Enrolment {
	const refused = () => new StillpointError("token-invalid", "the enrolment token was refused");

	async function readUsableToken(text: string): Promise<{ id: string; secretHash: string }> {
		const token = parseToken(text);
		if (token === undefined || token.caFingerprint !== authority.fingerprint) throw refused();
		const stored = { id: token.id, secretHash: hashSecret(token) };
		if (!(await store.isTokenUsable(stored, new Date().toISOString()))) throw refused();
		return stored;
	}

	return {
		async requireUsableToken(text) {
			await readUsableToken(text);
		},
		async makeToken(validMs) {
			const token = makeToken(authority.fingerprint);
			const expiresAt = new Date(Date.now() + validMs).toISOString();
			await store.addToken({ id: token.id, secretHash: hashSecret(token), expiresAt });
			return { token: formatToken(token), expiresAt };
		},
		async enrol(body) {
			const { token: text, csr, machine } = parseFields(enrolRequestSchema, body, "message-invalid");
			const stored = await readUsableToken(text);
			const agentId = `agent-${randomBytes(8).toString("hex")}`;
			const certificate = await authority.issueAgent(agentId, csr);
			const enrolledAt = new Date().toISOString();
			if (!(await store.useToken(stored, enrolledAt))) throw refused();
			await store.addAgent({ agentId, machine, enrolledAt, disks: [] });
			return { agentId, certificate, ca: authority.certificate };
		},
		async requestEnrolment(body, address) {
			const { formerAgentId, ...request } = parseFields(enrolmentRequestSchema, body, "message-invalid");
			const id = `request-${randomBytes(8).toString("hex")}`;
			const at = new Date().toISOString();
			const former = formerAgentId === undefined ? {} : { formerAgentId };
			const kept = { id, at, address: address.slice(0, 64), ...request, ...former };
			await store.addEnrolmentRequest(kept);
			return kept;
		},
	};
}

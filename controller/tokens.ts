import { createHash, randomBytes } from "node:crypto";

/** `stillpoint1.ID.SECRET.SHA256-OF-CA-DER` */
export type EnrolmentToken = { readonly id: string; readonly secret: string; readonly caFingerprint: string };

const shape = /^stillpoint1\.([0-9a-f]{16})\.([A-Za-z0-9_-]{43})\.([0-9a-f]{64})$/;

/** Undefined when it is no token of ours. */
export function parseToken(text: string): EnrolmentToken | undefined {
	const [, id, secret, caFingerprint] = shape.exec(text) ?? [];
	return id && secret && caFingerprint ? { id, secret, caFingerprint } : undefined;
}

export function formatToken(token: EnrolmentToken): string {
	return `stillpoint1.${token.id}.${token.secret}.${token.caFingerprint}`;
}

export function makeToken(caFingerprint: string): EnrolmentToken {
	return { id: randomBytes(8).toString("hex"), secret: randomBytes(32).toString("base64url"), caFingerprint };
}

/** What is stored of it. The secret has 256 random bits, so one round without salt is enough. */
export function hashSecret(token: EnrolmentToken): string {
	return createHash("sha256").update(token.secret).digest("hex");
}

import { createPrivateKey, type KeyObject, X509Certificate } from "node:crypto";
import { join } from "node:path";
import { decryptEnvelopedData } from "./cms-enveloped-data.ts";
import { findBase64 } from "./find-base64.ts";
import { isMissing, readLimitedFile } from "./read-limited-file.ts";

const maxKeyBytes = 64 * 1024;

/**
 * Decrypts `protectedSettings` of a settings file: base64 of CMS EnvelopedData, for the certificate of the thumbprint,
 * whose key lies in `THUMB.prv` and which lies in `THUMB.crt` (both PEM) of one of the folders.
 * @throws Error that names the file and never quotes a secret
 */
export async function decryptProtectedSettings(
	base64: string,
	thumbprint: string,
	keyFolders: readonly string[],
): Promise<Record<string, unknown>> {
	if (!/^[0-9A-Fa-f]{40}$/.test(thumbprint)) throw new Error("protectedSettingsCertThumbprint is no SHA-1 thumbprint");
	const encrypted = findBase64(base64);
	if (encrypted === undefined) throw new Error("protectedSettings is no base64");
	const owner = await readOwner(thumbprint, keyFolders);
	const bytes = await decryptEnvelopedData(encrypted, owner).catch((error: Error) => {
		throw new Error(`protectedSettings ${error.message}`);
	});
	try {
		// What is thrown in here may quote the secret: nothing of it goes on.
		const content: unknown = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
		if (isRecord(content)) return content;
	} catch {}
	throw new Error("protectedSettings: what was decrypted is no JSON object; the key may not fit");
}

export function isRecord(value: unknown): value is Record<string, unknown> {
	return typeof value === "object" && value !== null && !Array.isArray(value);
}

async function readOwner(
	thumbprint: string,
	folders: readonly string[],
): Promise<{ key: KeyObject; certificate: X509Certificate | undefined }> {
	const paths = folders.flatMap((folder) => [thumbprint, thumbprint.toUpperCase()].map((name) => join(folder, name)));
	for (const path of new Set(paths)) {
		const pem = await findFile(`${path}.prv`);
		if (pem === undefined) continue;
		const certificate = await findFile(`${path}.crt`);
		return {
			key: parsed(`${path}.prv`, () => createPrivateKey(pem)),
			certificate:
				certificate === undefined ? undefined : parsed(`${path}.crt`, () => new X509Certificate(certificate)),
		};
	}
	throw new Error(`protectedSettings: there is no key ${thumbprint}.prv in ${folders.join(" or ")}`);
}

async function findFile(path: string): Promise<string | undefined> {
	try {
		return await readLimitedFile(path, maxKeyBytes);
	} catch (error) {
		if (isMissing(error)) return undefined;
		throw new Error(`protectedSettings: ${path}: ${error instanceof Error ? error.message : String(error)}`);
	}
}

function parsed<T>(path: string, parse: () => T): T {
	try {
		return parse();
	} catch {
		throw new Error(`protectedSettings: ${path} is no PEM of a key or certificate`);
	}
}

import { spawn } from "node:child_process";
import { X509Certificate } from "node:crypto";
import { once } from "node:events";
import { readFile, rename } from "node:fs/promises";
import { join } from "node:path";
import { buffer } from "node:stream/consumers";
import { StillpointError } from "../../../contracts/errors.ts";

export type HostKeys = {
	readonly thumbprint: string;
	/** @returns base64 of CMS EnvelopedData, as settings files carry it */
	encrypt(content: string): Promise<string>;
};

/**
 * A key pair as a host makes one: THUMB.prv and THUMB.crt in the folder. By the openssl command, so that what the kit
 * decrypts was not encrypted by the kit.
 * @throws `tool-missing`
 */
export async function makeHostKeys(folder: string): Promise<HostKeys> {
	const [key, certificate] = [join(folder, "new.prv"), join(folder, "new.crt")];
	const request = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=harness"];
	await openssl([...request, "-keyout", key, "-out", certificate], "");
	const { fingerprint } = new X509Certificate(await readFile(certificate));
	const thumbprint = fingerprint.replaceAll(":", "");
	await rename(key, join(folder, `${thumbprint}.prv`));
	const crt = join(folder, `${thumbprint}.crt`);
	await rename(certificate, crt);
	// The same settings are given again and again.
	const encrypted = new Map<string, string>();
	return {
		thumbprint,
		async encrypt(content) {
			const words = ["cms", "-encrypt", "-binary", "-outform", "DER", "-aes-256-cbc", crt];
			const found = encrypted.get(content) ?? (await openssl(words, content)).toString("base64");
			encrypted.set(content, found);
			return found;
		},
	};
}

async function openssl(words: readonly string[], input: string): Promise<Buffer> {
	const child = spawn("openssl", words, { stdio: ["pipe", "pipe", "ignore"], timeout: 60_000 });
	const failed = (what: string) => new StillpointError("tool-missing", `openssl ${words[0]}: ${what}`);
	child.stdin.on("error", () => undefined);
	child.stdin.end(input);
	const output = buffer(child.stdout);
	const [code, signal] = (await once(child, "close").catch((error: Error) => {
		throw failed(error.message);
	})) as [number | null, string | null];
	if (code !== 0) throw failed(`ended with ${signal ?? `status ${code}`}`);
	return output;
}

import { createPrivateKey, X509Certificate } from "node:crypto";
import { mkdir, readFile, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { StillpointError } from "../contracts/errors.ts";
import type { ControllerAccess } from "./client.ts";
import { syncPath, unusable, writeDurably } from "./state-folder.ts";

/**
 * Makes the folder (0700, it must not exist yet) and keeps the key in it; `finish` writes the rest beside it. What is
 * not finished when it is disposed is removed. Files: `key.pem`, `cert.pem`, `ca.pem`, mode 0600.
 */
export async function beginCredentialFolder(
	folder: string,
	key: string,
): Promise<
	AsyncDisposable & {
		finish(certificates: { readonly certificate: string; readonly ca: string }): Promise<void>;
	}
> {
	await mkdir(folder, { mode: 0o700 }).catch((error) => {
		if (error.code === "EEXIST")
			throw new StillpointError("usage-invalid", `${folder} is there already; name a folder that is not`);
		throw unusable(folder, error);
	});
	const state = { finished: false };
	const remove = async () => {
		if (!state.finished) await rm(folder, { recursive: true, force: true });
	};
	try {
		await writeDurably(join(folder, "key.pem"), key);
		return {
			async finish({ certificate, ca }) {
				await writeDurably(join(folder, "cert.pem"), certificate);
				await writeDurably(join(folder, "ca.pem"), ca);
				await syncPath(folder);
				state.finished = true;
			},
			[Symbol.asyncDispose]: remove,
		};
	} catch (error) {
		await remove();
		throw error;
	}
}

/**
 * `not-allowed` when it can't be read, `state-unusable` when others can read the key, `usage-invalid` when there is no
 * credential or it is none.
 */
export async function readCredentialFolder(folder: string): Promise<Omit<ControllerAccess, "url">> {
	const read = (name: string) => readFile(join(folder, name), "utf8");
	try {
		const [key, cert, ca] = await Promise.all([read("key.pem"), read("cert.pem"), read("ca.pem")]);
		const { mode } = await stat(join(folder, "key.pem"));
		if ((mode & 0o077) !== 0)
			throw new StillpointError(
				"state-unusable",
				`${join(folder, "key.pem")} is open to group or others (${(mode & 0o777).toString(8)}); it must be 0600`,
			);
		requirePair(folder, key, cert, ca);
		return { key, cert, ca };
	} catch (error) {
		if (error instanceof StillpointError) throw error;
		const code = (error as NodeJS.ErrnoException).code;
		if (code === "EACCES" || code === "EPERM")
			throw new StillpointError("not-allowed", `the credential in ${folder} cannot be read`, { cause: error });
		throw new StillpointError("usage-invalid", `${folder} holds no credential (key.pem, cert.pem, ca.pem)`, {
			cause: error,
		});
	}
}

function requirePair(folder: string, key: string, cert: string, ca: string): void {
	try {
		new X509Certificate(ca);
		if (new X509Certificate(cert).checkPrivateKey(createPrivateKey(key))) return;
	} catch (error) {
		throw new StillpointError("usage-invalid", `the credential in ${folder} is damaged`, { cause: error });
	}
	throw new StillpointError("usage-invalid", `the key in ${folder} does not belong to the certificate beside it`);
}

import { mkdir, readFile, rm } from "node:fs/promises";
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

/** `not-allowed` when it can't be read, `usage-invalid` when there is no credential. */
export async function readCredentialFolder(folder: string): Promise<Omit<ControllerAccess, "url">> {
	const read = (name: string) => readFile(join(folder, name), "utf8");
	try {
		const [key, cert, ca] = await Promise.all([read("key.pem"), read("cert.pem"), read("ca.pem")]);
		return { key, cert, ca };
	} catch (error) {
		const code = (error as NodeJS.ErrnoException).code;
		if (code === "EACCES" || code === "EPERM")
			throw new StillpointError("not-allowed", `the credential in ${folder} cannot be read`, { cause: error });
		throw new StillpointError("usage-invalid", `${folder} holds no credential (key.pem, cert.pem, ca.pem)`, {
			cause: error,
		});
	}
}

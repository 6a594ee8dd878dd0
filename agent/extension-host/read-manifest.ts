import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { StillpointError } from "../../contracts/errors.ts";
import { type HandlerManifest, handlerManifestFileSchema } from "../../contracts/extension.ts";

const maxManifestBytes = 256 * 1024;

/** @throws `extension-invalid` naming the file and the field. */
export async function readManifest(folder: string): Promise<HandlerManifest> {
	const path = join(folder, "HandlerManifest.json");
	const invalid = (why: string, cause?: unknown) =>
		new StillpointError("extension-invalid", `${path}: ${why}`, { details: { path }, ...(cause ? { cause } : {}) });
	let value: unknown;
	try {
		const text = await readFile(path, "utf8");
		if (text.length > maxManifestBytes) throw new Error(`is larger than ${maxManifestBytes} bytes`);
		// Tools on Windows put a byte order mark before it.
		value = JSON.parse(text.replace(/^\ufeff/, ""));
	} catch (cause) {
		throw invalid(cause instanceof Error ? cause.message : String(cause), cause);
	}
	const manifest = handlerManifestFileSchema.safeParse(value);
	const issue = manifest.error?.issues[0];
	if (!manifest.success) throw invalid(`${issue?.path.join(".") || "(all)"}: ${issue?.message}`);
	return manifest.data[0] as HandlerManifest;
}

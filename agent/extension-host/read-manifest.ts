import { join } from "node:path";
import { StillpointError } from "../../contracts/errors.ts";
import { type HandlerManifest, handlerManifestFileSchema } from "../../contracts/extension.ts";
import { readSmallJson } from "../../platform/read-small-json.ts";

/** @throws `extension-invalid` naming the file and the field. */
export async function readManifest(folder: string): Promise<HandlerManifest> {
	const path = join(folder, "HandlerManifest.json");
	const [manifest] = await readSmallJson(path, {
		code: "extension-invalid",
		limitBytes: 256 * 1024,
		schema: handlerManifestFileSchema,
	});
	if (manifest === undefined) throw new StillpointError("extension-invalid", `${path}: is empty`);
	return manifest;
}

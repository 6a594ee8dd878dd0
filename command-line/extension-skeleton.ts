import { chmod, cp, mkdir, readdir, readFile, stat, writeFile } from "node:fs/promises";
import { dirname, join, relative } from "node:path";
import { checkShape } from "../contracts/check-shape.ts";
import { StillpointError } from "../contracts/errors.ts";
import { handlerManifestSchema } from "../contracts/extension.ts";

/** Files of a template that carry the extension's name. */
const named = ["HandlerManifest.json", "package.json"];

/** @returns the files that it made. @throws `usage-invalid`, `not-found` when this program was not built with the kit */
export async function makeExtension(given: {
	name: string;
	language: "ts" | "sh";
	folder: string;
	/** The kit as it was bundled: `extension-kit`. */
	kit: string;
}): Promise<string[]> {
	const { name, language, folder, kit } = given;
	if (!checkShape(handlerManifestSchema.shape.name, name).success)
		throw new StillpointError(
			"usage-invalid",
			`${JSON.stringify(name)} is no name for an extension: letters, digits, . _ -`,
		);
	const template = join(kit, "templates", language);
	await stat(template).catch((cause: Error) => {
		throw new StillpointError("not-found", `${template}: the kit is not built; run: npm run bundle`, { cause });
	});
	const before = await readdir(folder).catch((error: NodeJS.ErrnoException) => {
		if (error.code === "ENOENT") return [];
		throw new StillpointError("usage-invalid", `${folder}: ${error.message}`, { cause: error });
	});
	if (before.length > 0) throw new StillpointError("usage-invalid", `${folder} is not empty; choose another by --into`);
	// Modes of its own: what others can change, no agent runs as root.
	await mkdir(folder, { recursive: true, mode: 0o755 });
	await cp(template, folder, { recursive: true });
	if (language === "ts") await cp(join(kit, "stillpoint-kit.mjs"), join(folder, "stillpoint-kit.mjs"));
	const made: string[] = [];
	for (const entry of await readdir(folder, { recursive: true, withFileTypes: true })) {
		const path = join(entry.parentPath, entry.name);
		const isProgram = dirname(path) === join(folder, "bin") && entry.name === "handler";
		await chmod(path, entry.isDirectory() || isProgram ? 0o755 : 0o644);
		if (!entry.isFile()) continue;
		if (named.includes(entry.name))
			await writeFile(path, (await readFile(path, "utf8")).replace('"NAME"', JSON.stringify(name)));
		made.push(relative(folder, path));
	}
	return made.sort();
}

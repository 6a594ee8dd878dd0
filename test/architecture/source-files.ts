import { execFileSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";

export const root = resolve(import.meta.dirname, "../..");

export type SourceFile = { path: string; text: string; imports: readonly string[] };

/** Every TypeScript and JavaScript file of the repository, tracked or new, with what it imports. */
export function readSourceFiles(): SourceFile[] {
	const list = execFileSync("git", ["ls-files", "--cached", "--others", "--exclude-standard", "*.ts", "*.mjs"], {
		cwd: root,
		encoding: "utf8",
	});
	return list
		.split("\n")
		.filter((path) => path !== "" && existsSync(join(root, path)))
		.map((path) => {
			const text = readFileSync(join(root, path), "utf8");
			return { path, text, imports: findImports(text) };
		});
}

/** Specifiers of static and dynamic imports and re-exports. */
export function findImports(text: string): string[] {
	const found = text.matchAll(/(?:^|[\s;}])(?:from|import)\s*\(?\s*["']([^"'\n]+)["']/g);
	return [...found].map((match) => match[1] as string);
}

/** The top folder that a relative import leads to, or undefined for a package. */
export function targetFolder(file: SourceFile, specifier: string): string | undefined {
	if (!specifier.startsWith(".")) return undefined;
	return folderOf(relative(root, resolve(root, dirname(file.path), specifier)));
}

export function folderOf(path: string): string {
	const parts = path.split("/");
	if (parts.length === 1) return ".";
	return parts[0] === "extensions" ? `extensions/${parts[1]}` : (parts[0] as string);
}

import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { describe, expect, test } from "vitest";
import { azureLimits } from "../../agent/extension-host/host-ports.ts";
import { version } from "../../contracts/version.ts";
import { generateDocuments } from "../../docs/generate-documents.ts";
import { root } from "./source-files.ts";

const packageJson = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as {
	version: string;
	dependencies: Record<string, string>;
	devDependencies: Record<string, string>;
	optionalDependencies: Record<string, string>;
};

describe("what documents claim", () => {
	test.each(generateDocuments().map((one) => [one.path, one.text] as const))(
		"%s is fresh (npm run docs)",
		(path, text) => {
			expect(readFileSync(join(root, path), "utf8")).toBe(text);
		},
	);

	test("every dependency has its reason in docs/dependencies.md, and its version is exact", () => {
		const reasons = readFileSync(join(root, "docs/dependencies.md"), "utf8");
		const all = { ...packageJson.dependencies, ...packageJson.devDependencies, ...packageJson.optionalDependencies };
		expect(Object.keys(all).filter((name) => !reasons.includes(`\`${name}\``))).toEqual([]);
		expect(Object.entries(all).filter(([, range]) => !/^\d+\.\d+\.\d+$/.test(range))).toEqual([]);
	});

	test("programs and package.json tell the same version", () => {
		expect(version).toBe(packageJson.version);
	});

	test("links between the project's own documents lead somewhere", () => {
		const pages = readdirSync(join(root, "docs"), { recursive: true, encoding: "utf8" })
			.filter((name) => name.endsWith(".md"))
			.map((name) => `docs/${name}`);
		const broken = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", ...pages].flatMap((path) =>
			[...readFileSync(join(root, path), "utf8").matchAll(/\]\((?!https?:|#)([^)#]+)/g)]
				.map((match) => match[1] as string)
				.filter((target) => !existsSync(join(root, dirname(path), target)))
				.map((target) => `${path} -> ${target}`),
		);
		expect(pages.length).toBeGreaterThan(10);
		expect(broken).toEqual([]);
	});

	test("the files and folders that ARCHITECTURE.md names are there", () => {
		const text = readFileSync(join(root, "ARCHITECTURE.md"), "utf8");
		const named = [...text.matchAll(/`([a-z-]+(?:\/[\w.-]+)*\/(?:[\w.-]+\.ts)?)`/g)].map((match) => match[1] as string);
		expect(named.length).toBeGreaterThan(30);
		// Of a folder inside of another one the table says only the name.
		const inside = ["agent", "controller", "extensions/kit", "extensions/vm-snapshot-linux", ""];
		const lost = named.filter((path) => !inside.some((folder) => existsSync(join(root, folder, path))));
		expect(lost).toEqual([]);
	});

	test("the guide tells the limits of the five commands that the host holds", () => {
		const guide = readFileSync(join(root, "docs/extension-guide.md"), "utf8");
		const told = [...guide.matchAll(/^\| `(\w+)` +\|.*\| (\d+) s +\|$/gm)].map(([, name, s]) => [
			name,
			Number(s) * 1_000,
		]);
		expect(Object.fromEntries(told)).toEqual(azureLimits.commandMs);
		// Azure's own: agent 2.15 of Microsoft.
		expect(azureLimits.commandMs).toEqual({
			install: 900_000,
			update: 900_000,
			disable: 900_000,
			enable: 300_000,
			uninstall: 300_000,
		});
	});
});

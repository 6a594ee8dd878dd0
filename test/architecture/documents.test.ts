import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
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
		const broken = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"].flatMap((path) =>
			[...readFileSync(join(root, path), "utf8").matchAll(/\]\((?!https?:|#)([^)#]+)/g)]
				.map((match) => match[1] as string)
				.filter((target) => !existsSync(join(root, target)))
				.map((target) => `${path} -> ${target}`),
		);
		expect(broken).toEqual([]);
	});
});

import { describe, expect, test } from "vitest";
import { errorCodes } from "../../contracts/errors.ts";
import { findImports, folderOf, readSourceFiles, type SourceFile, targetFolder } from "./source-files.ts";

/** Folder -> the folders of ours that it may import from, besides itself. The column of ARCHITECTURE.md. */
const mayImport: Readonly<Record<string, readonly string[] | "everything">> = {
	contracts: [],
	platform: ["contracts"],
	agent: ["contracts", "platform"],
	"extensions/kit": ["contracts"],
	"extensions/vm-snapshot-linux": ["extensions/kit", "contracts", "platform"],
	controller: ["contracts", "platform"],
	scripts: [],
	"command-line": "everything",
	demo: "everything",
	bench: "everything",
	test: "everything",
	docs: "everything",
	".": [],
};

/** Nothing of the product may lean on these. */
const leaves = ["test", "demo", "bench", "docs", "command-line"];

function brokenImportRules(file: SourceFile): string[] {
	const from = folderOf(file.path);
	const allowed = mayImport[from];
	if (allowed === undefined) return [`${file.path}: folder ${from} is not in the table`];
	return file.imports.flatMap((specifier) => {
		const to = targetFolder(file, specifier);
		if (to === undefined || to === from || allowed === "everything") return [];
		return allowed.includes(to) ? [] : [`${file.path} imports ${specifier}`];
	});
}

/** Entry files: the only ones that touch argv, environment, signals and the exit status. */
const entries = [
	"command-line/guard-program.ts",
	"command-line/stillpoint.ts",
	"extensions/kit/templates/ts/handler.ts",
	"extensions/vm-snapshot-linux/vm-snapshot-linux.ts",
	"extensions/vm-snapshot-linux/freezer.ts",
	"extensions/vm-snapshot-linux/write-probe.ts",
	"controller/verify/database-check-program.ts",
];
const entryOnly = /process\.(argv|env|exitCode|on\(|once\()|process\.exit\b/;

function isProduct(file: SourceFile): boolean {
	return !["test", "demo", "bench", "docs", "scripts", "."].includes(folderOf(file.path));
}

function touchesProcess(file: SourceFile): boolean {
	return isProduct(file) && !entries.includes(file.path) && entryOnly.test(withoutComments(file.text));
}

function withoutComments(text: string): string {
	return text.replaceAll(/\/\*[\s\S]*?\*\//g, "").replaceAll(/(^|\s)\/\/.*$/gm, "");
}

/** As a text of its own or the key of a table; not where it is defined, and not in a comment. */
function findUnusedCodes(sources: readonly SourceFile[]): string[] {
	const texts = sources
		.filter((file) => file.path !== "contracts/error-catalogue.ts" && isProduct(file))
		.map((file) => withoutComments(file.text))
		.join("\n");
	return errorCodes.filter((code) => !new RegExp(`"${code}"|^\\s*${code}:`, "m").test(texts));
}

const files = readSourceFiles();

describe("the import column", () => {
	test("there is something to look at", () => {
		expect(files.length).toBeGreaterThan(20);
	});

	test.each(files.map((file) => [file.path, file] as const))("%s keeps it", (_path, file) => {
		expect(brokenImportRules(file)).toEqual([]);
	});

	test("a breach is found", () => {
		const text = 'import { a } from "../controller/api.ts";\nconst b = await import("../extensions/kit/x.ts");';
		expect(brokenImportRules({ path: "agent/x.ts", text, imports: findImports(text) })).toHaveLength(2);
	});

	test("nothing of the product leans on tests, demo, benchmarks, docs or the command line", () => {
		const found = files
			.filter((file) => !leaves.includes(folderOf(file.path)))
			.flatMap((file) => file.imports.filter((one) => leaves.includes(targetFolder(file, one) ?? "")));
		expect(found).toEqual([]);
	});
});

describe("house rules", () => {
	test("one file imports node-ipc", () => {
		const importing = files.filter((file) =>
			file.imports.some((one) => one === "node-ipc" || one.startsWith("node-ipc/")),
		);
		expect(importing.map((file) => file.path)).toEqual(["platform/local-channel.ts"]);
	});

	test("only entry files touch argv, environment, signals and the exit status", () => {
		expect(files.filter(touchesProcess).map((file) => file.path)).toEqual([]);
	});

	test("a file that touches them is found", () => {
		expect(
			touchesProcess({ path: "agent/x.ts", text: "if (process.argv.length) process.exitCode = 1;", imports: [] }),
		).toBe(true);
		expect(touchesProcess({ path: "agent/x.ts", text: "// never process.exit\n", imports: [] })).toBe(false);
	});

	test("nobody ends the process by force", () => {
		const found = files.filter(
			(file) => /process\.exit\(/.test(withoutComments(file.text)) && !file.path.startsWith("test/"),
		);
		expect(found.map((file) => file.path)).toEqual([]);
	});

	test("no file is a drawer", () => {
		const drawers = files.filter((file) => /(^|\/)(utils?|helpers?|common|manager|lib|misc)(\.|\/)/.test(file.path));
		expect(drawers.map((file) => file.path)).toEqual([]);
	});

	test("no module is mocked", () => {
		const found = files.filter(
			(file) => /\bvi\.(mock|doMock)\(/.test(file.text) && !file.path.startsWith("test/architecture"),
		);
		expect(found.map((file) => file.path)).toEqual([]);
	});

	test("every error code is used by the product", () => {
		expect(findUnusedCodes(files)).toEqual([]);
	});

	test("a code that nothing uses is found, also when its catalogue or a comment names it", () => {
		const text = errorCodes.filter((code) => code !== "stuck").map((code) => `new StillpointError("${code}", what);`);
		const others = [
			{ path: "contracts/error-catalogue.ts", text: '"stuck"', imports: [] },
			{ path: "test/x.ts", text: '"stuck"', imports: [] },
			{ path: "agent/y.ts", text: '/** @throws "stuck" */\nconst stuck = 1; // "stuck"', imports: [] },
		];
		expect(findUnusedCodes([{ path: "agent/x.ts", text: text.join("\n"), imports: [] }, ...others])).toEqual(["stuck"]);
	});
});

import { spawn } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { text } from "node:stream/consumers";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { makeExtension } from "../../command-line/extension-skeleton.ts";
import { openHandlerHost } from "../../extensions/kit/harness/handler-host.ts";
import { expectDocument } from "../fixtures/expect-document.ts";
import { requireTools } from "../fixtures/required-tools.ts";

const root = resolve(import.meta.dirname, "../..");
const lacking = requireTools("openssl");

describe.skipIf(lacking)(
	`commands for authors${lacking ? ` (${lacking})` : ""}`,
	{ concurrent: true, timeout: 180_000 },
	() => {
		let base: string;
		beforeAll(() => {
			base = mkdtempSync(join(tmpdir(), "stillpoint-author-"));
		});
		afterAll(() => rmSync(base, { recursive: true, force: true }));

		async function stillpoint(...words: string[]) {
			const child = spawn(process.execPath, [join(root, "command-line/stillpoint.ts"), "extensions", ...words]);
			const [stdout, stderr, exitCode] = await Promise.all([
				text(child.stdout),
				text(child.stderr),
				new Promise<number | null>((ended) => child.once("exit", ended)),
			]);
			return { exitCode, stdout, stderr };
		}

		function makePackage(faults: string): string {
			const folder = join(base, `package-${faults}`);
			cpSync(join(root, "test/fixtures/extensions/faulty-handler"), folder, { recursive: true });
			writeFileSync(join(folder, "faults.txt"), faults);
			const names = ["install", "uninstall", "update", "enable", "disable"];
			const handlerManifest = Object.fromEntries(names.map((name) => [`${name}Command`, `bin/handler ${name}`]));
			const manifest = [{ name: "Faulty", version: "1.0", handlerManifest }];
			writeFileSync(join(folder, "HandlerManifest.json"), JSON.stringify(manifest));
			return folder;
		}

		test("a failed check is exit status 3, said to people with what to do", async () => {
			const { exitCode, stdout } = await stillpoint("test", makePackage("install"));
			expect(exitCode).toBe(3);
			expect(stdout).toMatch(
				/FAIL install succeeds\n {7}install ended with 7: no install today\n {7}-> It must exit with 0/,
			);
			expect(stdout).toContain("Faulty 1.0 fails 1 of 17 checks");
		});

		test("and is one document for programs; the folder of the run is kept when asked", async () => {
			const { exitCode, stdout } = await stillpoint("test", makePackage("enable"), "--json", "--keep");
			const { folder, ...verdict } = expectDocument("extensions test", stdout) as { folder: string };
			expect(exitCode).toBe(3);
			expect(verdict).toMatchObject({ name: "Faulty", passed: false });
			expect(readdirSync(join(folder, "waagent"))).toContain("Faulty-1.0");
			rmSync(folder, { recursive: true });
		});

		test.each([
			["no folder", ["test", "/does/not/exist"], 78, "HandlerManifest.json"],
			["a settings file with an unknown field", ["test", "/x", "--settings", "BAD"], 78, "BAD"],
			["a settings file that is missing", ["test", "/x", "--settings", "/does/not/exist"], 78, "/does/not/exist"],
			["a name that is a path", ["new", "../x", "--language", "sh"], 2, "is no name for an extension"],
			["an unknown language", ["new", "X", "--language", "cobol"], 2, "cobol"],
			["no language", ["new", "X"], 2, "--language"],
		])("%s is refused", async (_what, words, exitCode, says) => {
			const bad = join(base, "BAD");
			writeFileSync(bad, '{"publicSetings":{}}');
			const result = await stillpoint(...words.map((word) => (word === "BAD" ? bad : word)));
			expect(result).toMatchObject({ exitCode, stderr: expect.stringContaining(says) });
		});

		test("the shell skeleton takes settings that are empty for none, and says what it misses in them", async () => {
			const folder = join(base, "sh-empty");
			await makeExtension({ name: "Sh", language: "sh", folder, kit: join(root, "extensions/kit") });
			await using host = await openHandlerHost({ packageFolder: folder, workFolder: join(base, "sh-empty-host") });
			const settingsText = JSON.stringify({ runtimeSettings: [{ handlerSettings: {} }] });
			expect((await host.enable({ sequenceNumber: 1, settingsText })).exitCode).not.toBe(0);
			expect((await host.readStatus(1))?.message).toBe("publicSettings.greeting: a text is needed");
			const handler = join(host.folder, "bin/handler");
			writeFileSync(handler, readFileSync(handler, "utf8").replace(/.*type_of greeting.*\n/, ""));
			expect(await host.enable({ sequenceNumber: 2, settingsText })).toMatchObject({ exitCode: 0 });
			expect(await host.readStatus(2)).toMatchObject({ status: "success" });
		});

		test("a skeleton belongs to its author alone, and nothing that is there is overwritten", async () => {
			const kit = join(base, "kit");
			cpSync(join(root, "extensions/kit/templates"), join(kit, "templates"), { recursive: true });
			const folder = join(base, "new");
			const make = (into: string, name = "My.Name-1") => makeExtension({ name, language: "sh", folder: into, kit });
			expect(await make(folder)).toContain("bin/handler");
			expect(statSync(join(folder, "bin/handler")).mode & 0o777).toBe(0o755);
			expect(statSync(join(folder, "HandlerManifest.json")).mode & 0o777).toBe(0o644);
			await expect(make(folder)).rejects.toThrow("is not empty");
			const file = join(base, "file");
			writeFileSync(file, "");
			await expect(make(file)).rejects.toMatchObject({ code: "usage-invalid" });
			mkdirSync(join(base, "empty"));
			await make(join(base, "empty"));
			const elsewhere = makeExtension({ name: "X", language: "ts", folder: join(base, "z"), kit: "/does/not/exist" });
			await expect(elsewhere).rejects.toThrow("the kit is not built");
		});
	},
);

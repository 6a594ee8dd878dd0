import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { checkHandler, type HandlerVerdict } from "../../extensions/kit/harness/check-handler.ts";
import { openHandlerHost } from "../../extensions/kit/harness/handler-host.ts";
import { requireTools } from "../fixtures/required-tools.ts";

const lacking = requireTools("openssl");
const faultyHandler = resolve(import.meta.dirname, "../fixtures/extensions/faulty-handler");
const settings = {
	publicSettings: { greeting: "hello" },
	wrongPublicSettings: { greeting: "wrong" },
	protectedSettings: { password: "correct horse battery" },
	unchanged: ["work.txt"],
	statusLimitMs: 5_000,
};

const secretsCheck = "secrets are in no file and on no command line";
const updateCheck = "an update succeeds, and its status is told by the new version";

/** What is done wrong, all of it in one life, and exactly the checks that then fail. */
const lives: readonly [faults: string, failing: string[]][] = [
	["", []],
	["install", ["install succeeds"]],
	["enable", ["enable succeeds"]],
	["ends-in-error", ["enable succeeds"]],
	["no-status", ["enable leaves a status"]],
	["malformed-status", ["enable leaves a status"]],
	["wrong-status", ["enable leaves a status"]],
	[
		"starts-by-path repeats no-heartbeat silent-on-no-json silent-on-wrong silent-on-undecryptable poor-event leaves-a-process",
		[
			"the commands start files of the package",
			"enable repeated does nothing twice",
			"the heartbeat is written",
			"settings that are no JSON are an error",
			"wrong settings are an error",
			"protected settings that cannot be decrypted are an error",
			"events have every field",
			"nothing runs after disable",
		],
	],
	["impatient secret-in-file update", ["half-written settings are read again", updateCheck, secretsCheck]],
	["secret-on-command-line disable uninstall", [updateCheck, "disable succeeds", secretsCheck, "uninstall succeeds"]],
];

describe.skipIf(lacking)(
	`the checks of a handler${lacking ? ` (${lacking})` : ""}`,
	{ concurrent: true, timeout: 180_000 },
	() => {
		let root: string;
		/** All run beside each other: most of their time they wait. */
		const verdicts = new Map<string, Promise<HandlerVerdict>>();
		beforeAll(() => {
			root = mkdtempSync(join(tmpdir(), "stillpoint-checks-"));
			for (const [faults] of lives) {
				const verdict = check(faults);
				verdict.catch(() => undefined);
				verdicts.set(faults, verdict);
			}
		});
		afterAll(() => rmSync(root, { recursive: true, force: true }));

		function makePackage(faults: string, name = `package ${faults}`.replaceAll(" ", "-")): string {
			const folder = join(root, name);
			mkdirSync(folder);
			cpSync(faultyHandler, folder, { recursive: true });
			// Where authors keep them: a secret that was shipped was not leaked.
			writeFileSync(join(folder, "test-settings.json"), JSON.stringify(settings));
			writeFileSync(join(folder, "faults.txt"), faults.replaceAll(" ", "\n"));
			const start = faults.startsWith("starts-by-path") ? "/bin/sh ./bin/handler" : "bin/handler";
			const names = ["install", "uninstall", "update", "enable", "disable"];
			const commands = Object.fromEntries(names.map((name) => [`${name}Command`, `${start} ${name}`]));
			const handlerManifest = { ...commands, reportHeartbeat: faults.includes("no-heartbeat") };
			writeFileSync(
				join(folder, "HandlerManifest.json"),
				JSON.stringify([{ name: "Faulty", version: "1.0", handlerManifest }]),
			);
			return folder;
		}

		function check(faults: string) {
			const workFolder = join(root, `work ${faults}`.replaceAll(" ", "-"));
			return checkHandler({ packageFolder: makePackage(faults), workFolder, settings });
		}

		test.each(lives)("find exactly what is wrong: %s", async (faults, failing) => {
			const verdict = await verdicts.get(faults);
			const failed = verdict?.checks.filter((one) => one.result === "failed") ?? [];
			expect(failed.map(({ name }) => name)).toEqual(failing);
			for (const one of failed) expect([one.what, one.remedy]).not.toContain(undefined);
			expect(verdict).toMatchObject({ name: "Faulty", version: "1.0", passed: failing.length === 0 });
			const skipped = verdict?.checks.filter((one) => one.result === "skipped");
			if (failing.length === 0) expect(skipped).toEqual([]);
		});

		test("say where a secret was found", async () => {
			const whatOf = async (faults: string) =>
				(await verdicts.get(faults))?.checks.find(({ name }) => name === secretsCheck)?.what;
			expect(await whatOf("impatient secret-in-file update")).toBe("Faulty-1.0/log.txt");
			expect(await whatOf("secret-on-command-line disable uninstall")).toMatch(/^process \d+ \(sh\)/);
		});

		test("do not wait for a status without end", async () => {
			const host = await openHandlerHost({
				packageFolder: makePackage("never-ends"),
				workFolder: join(root, "never-ends"),
			});
			await using opened = host;
			await opened.enable({ sequenceNumber: 1, ...settings });
			await expect(opened.waitForStatus(1, { limitMs: 100 })).rejects.toThrow("it was transitioning: working");
		});

		test("say what was not reached after a failure that ends all", async () => {
			const { checks = [] } = (await verdicts.get("install")) ?? {};
			expect(checks).toHaveLength(17);
			expect(checks.slice(2).every(({ result, what }) => result === "skipped" && what?.includes("install"))).toBe(true);
		});

		test("refuse a package without manifest, and one with a bad one", async () => {
			const folder = join(root, "empty");
			mkdirSync(folder);
			const run = () => checkHandler({ packageFolder: folder, workFolder: join(root, "never") });
			await expect(run()).rejects.toMatchObject({ code: "extension-invalid" });
			writeFileSync(join(folder, "HandlerManifest.json"), '[{"name":"../x"}]');
			await expect(run()).rejects.toThrow(/HandlerManifest\.json: 0\.name/);
		});

		test("end when they are told to, with all that they started", async () => {
			const folder = makePackage("leaves-a-process", "stopped-package");
			const stopping = new AbortController();
			const workFolder = join(root, "stopped");
			const running = checkHandler({
				packageFolder: folder,
				workFolder,
				settings,
				signal: stopping.signal,
				onCheck: ({ name }) => name.startsWith("enable leaves") && stopping.abort(new Error("enough")),
			});
			await expect(running).rejects.toThrow("enough");
			await using host = await openHandlerHost({ packageFolder: folder, workFolder });
			expect(await host.processes()).toEqual([]);
		});
	},
);

describe.skipIf(lacking ?? requireTools("root", "unshare"))("a host in a namespace of its own", () => {
	test("shows its folder at /var/lib/waagent to the handler only, and to nobody else", async () => {
		const root = mkdtempSync(join(tmpdir(), "stillpoint-namespace-"));
		const packageFolder = join(root, "package");
		mkdirSync(packageFolder);
		const script = `#!/bin/sh\npwd >where.txt\nls /var/lib/waagent/*.prv >>where.txt\n`;
		writeFileSync(join(packageFolder, "handler"), script);
		const names = ["install", "uninstall", "update", "enable", "disable"];
		const handlerManifest = Object.fromEntries(names.map((name) => [`${name}Command`, `handler ${name}`]));
		writeFileSync(
			join(packageFolder, "HandlerManifest.json"),
			JSON.stringify([{ name: "Where", version: "1.0", handlerManifest }]),
		);
		{
			const workFolder = join(root, "work");
			await using host = await openHandlerHost({ packageFolder, workFolder, privateNamespace: true });
			expect(await host.install()).toMatchObject({ exitCode: 0 });
			expect(readFileSync(join(host.folder, "where.txt"), "utf8").split("\n")).toEqual([
				"/var/lib/waagent/Where-1.0",
				`/var/lib/waagent/${host.keys.thumbprint}.prv`,
				"",
			]);
			expect(existsSync(`/var/lib/waagent/${host.keys.thumbprint}.prv`)).toBe(false);
		}
		rmSync(root, { recursive: true });
	});
});

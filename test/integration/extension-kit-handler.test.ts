import { execFileSync, spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { type HandlerHost, type HostOptions, openHandlerHost } from "../../extensions/kit/harness/handler-host.ts";
import { compiledFolder } from "../fixtures/compiled-folder.ts";
import { makeKitExample } from "../fixtures/kit-example.ts";
import { requireTools } from "../fixtures/required-tools.ts";

const lacking = requireTools("openssl");
const password = "correct horse battery";

describe.skipIf(lacking)(
	`a handler made with the kit${lacking ? ` (${lacking})` : ""}`,
	{ concurrent: true, timeout: 180_000 },
	() => {
		let root: string;
		let packageFolder: string;
		let hosts = 0;

		beforeAll(() => {
			root = mkdtempSync(join(tmpdir(), "stillpoint-kit-handler-"));
			packageFolder = makeKitExample(root);
		});
		afterAll(() => rmSync(root, { recursive: true, force: true }));

		function open(environment: HostOptions["environment"] = {}): Promise<HandlerHost> {
			const workFolder = join(root, `host-${hosts++}`);
			const variables = { NODE_COMPILE_CACHE: compiledFolder, ...environment };
			return openHandlerHost({ packageFolder, workFolder, environment: variables });
		}

		function linesOf(host: HandlerHost, name: string): string[] {
			const path = join(host.folder, name);
			return existsSync(path) ? readFileSync(path, "utf8").trim().split("\n") : [];
		}

		/** `poll` serves no tests that run beside each other. */
		function eventually(claim: () => unknown): Promise<unknown> {
			return vi.waitFor(claim, { timeout: 60_000, interval: 20 });
		}

		/** Every file below, as grep sees it. */
		function filesWith(text: string, folder: string): string {
			try {
				return execFileSync("grep", ["-rlF", text, folder], { encoding: "utf8" });
			} catch {
				return "";
			}
		}

		test("answers every command, tells its status, an event and a log, and masks secrets in all of them", async () => {
			await using host = await open();
			expect(await host.install()).toMatchObject({ exitCode: 0, output: "laid out\n" });
			const settings = { publicSettings: { outcome: "fine" }, protectedSettings: { password } };
			expect(await host.enable({ sequenceNumber: 3, ...settings })).toMatchObject({ exitCode: 0 });
			expect(await host.readStatus(3)).toMatchObject({
				status: "success",
				code: 0,
				operation: "Enable",
				message: "fine",
			});
			expect(await host.readEvents()).toEqual([
				expect.objectContaining({ Message: "enable was called", Version: "1.0.0" }),
			]);
			expect(await host.log()).toContain("the password is [secret]");
			expect(filesWith(password, host.folder) + filesWith(password, host.logFolder)).toBe("");
			// The control: what is there is found.
			expect(filesWith("the password is", host.logFolder)).not.toBe("");
			expect((await host.disable()).output).toBe("rests\n");
			expect((await host.uninstall()).exitCode).toBe(0);
		});

		test("says what failed by exit status and status file, without the secret", async () => {
			await using host = await open();
			const protectedSettings = { password };
			const enable = async (sequenceNumber: number, publicSettings: unknown) =>
				host.enable({ sequenceNumber, publicSettings, protectedSettings });
			expect(await enable(1, { throwSecret: true })).toMatchObject({
				exitCode: 1,
				output: expect.stringContaining("[secret]"),
			});
			expect(await host.readStatus(1)).toMatchObject({
				status: "error",
				code: 1009,
				message: "can't log in with [secret]",
			});
			const parts = [{ name: "disk", status: "error", code: 7, message: "gone" }];
			const outcome = { status: "error", code: 42, message: "half of it", substatus: parts };
			expect((await enable(2, { outcome })).exitCode).toBe(1);
			expect(await host.readStatus(2)).toMatchObject({ status: "error", code: 42, substatus: parts });
			expect((await enable(3, { outcome: { status: "warning", message: "so so" } })).exitCode).toBe(0);
			expect(await host.readStatus(3)).toMatchObject({ status: "warning", message: "so so" });
			expect(filesWith(password, host.folder) + filesWith(password, host.logFolder)).toBe("");
		});

		test("tells bad settings by exit status, status file and field", async () => {
			await using host = await open();
			const bad = await host.enable({ sequenceNumber: 5, settingsText: '{"runtimeSettings":7}' });
			expect(bad.exitCode).toBe(78);
			expect(await host.readStatus(5)).toMatchObject({
				status: "error",
				message: expect.stringContaining("runtimeSettings"),
			});
			expect(linesOf(host, "enabled.txt")).toEqual([]);
			const outside = await host.enable({ sequenceNumber: 6, extensionName: "web" });
			expect(outside.exitCode).toBe(0);
			expect(await host.readStatus(6, "web")).toMatchObject({ status: "success" });
		});

		test.each([
			[
				"a missing HandlerEnvironment.json",
				(host: HandlerHost) => rmSync(join(host.folder, "HandlerEnvironment.json")),
				78,
			],
			[
				"a file where the status folder was",
				(host: HandlerHost) => {
					rmSync(host.statusFolder, { recursive: true });
					writeFileSync(host.statusFolder, "");
				},
				78,
			],
		])("fails with %s, before any work", async (_what, spoil, exitCode) => {
			await using host = await open();
			spoil(host);
			const result = await host.enable({ sequenceNumber: 1, publicSettings: {} });
			expect(result).toMatchObject({ exitCode, output: expect.stringContaining("enable failed") });
			expect(linesOf(host, "enabled.txt")).toEqual([]);
		});

		test.skipIf(requireTools("root", "unshare", "mount"))("fails on a full disk, before any work", async () => {
			await using host = await open();
			await host.enable({ sequenceNumber: 1 });
			const mounted = 'mount -t tmpfs -o size=8k none status && ! head -c 8192 /dev/zero >status/full 2>&1; exec "$@"';
			const enable = [process.execPath, join(import.meta.dirname, "../fixtures/kit-example-program.ts"), "enable"];
			const words = ["--mount", "--propagation", "private", "/bin/sh", "-c", mounted, "sh", ...enable];
			const env = { ...process.env, ConfigSequenceNumber: "1" };
			const result = spawnSync("unshare", words, { cwd: host.folder, env, encoding: "utf8" });
			expect(result).toMatchObject({ status: 78, stderr: expect.stringMatching(/1\.status: ENOSPC/) });
			expect(linesOf(host, "enabled.txt")).toEqual(["1"]);
		});

		test("makes a status folder that is missing", async () => {
			await using host = await open();
			rmSync(host.statusFolder, { recursive: true });
			expect((await host.enable({ sequenceNumber: 1 })).exitCode).toBe(0);
			expect(await host.readStatus(1)).toMatchObject({ status: "success" });
		});

		test("that works once does nothing twice, also when it ended in the middle; a level-triggered one runs again", async () => {
			await using once = await open({ KIT_EXAMPLE_ONCE: "1", KIT_EXAMPLE_BLANK: "1" });
			await using always = await open();
			await Promise.all(
				[once, always].map((host) => host.enable({ sequenceNumber: 1, protectedSettings: { password } })),
			);
			const written = readFileSync(join(once.statusFolder, "1.status"), "utf8");
			expect(readFileSync(join(once.configFolder, "1.settings"), "utf8")).not.toContain(once.keys.thumbprint);
			for (const result of await Promise.all([once.enableAgain(), always.enableAgain()]))
				expect(result).toMatchObject({ exitCode: 0 });
			expect(readFileSync(join(once.statusFolder, "1.status"), "utf8")).toBe(written);
			expect([linesOf(once, "enabled.txt"), linesOf(always, "enabled.txt")]).toEqual([["1"], ["1", "1"]]);
			rmSync(join(once.statusFolder, "1.status"));
			expect((await once.enableAgain()).exitCode).toBe(0);
			expect(await once.readStatus(1)).toMatchObject({
				status: "error",
				message: expect.stringContaining("begun before"),
			});
			await once.enable({ sequenceNumber: 0 });
			expect(linesOf(once, "enabled.txt")).toEqual(["1", "0"]);
			await always.enable({ sequenceNumber: 9, extensionName: "web" });
			expect(readFileSync(join(always.folder, "web.mrseq"), "utf8")).toBe("9");
		});

		test("lets a job outlive enable, gives it the secrets, and reports its end", async () => {
			await using host = await open({ KIT_EXAMPLE_JOB: "1" });
			const settings = { publicSettings: { jobMs: 300 }, protectedSettings: { password, pin: "x" } };
			expect(await host.enable({ sequenceNumber: 1, ...settings })).toMatchObject({ output: "the job was started\n" });
			expect((await host.readStatus(1))?.status).toBe("transitioning");
			expect(await host.waitForStatus(1)).toMatchObject({
				status: "success",
				operation: "Job",
				message: "worked with 2 secrets",
			});
			expect(await host.readHeartbeat()).toMatchObject({ ready: true, message: "beating" });
			await eventually(async () => expect(await host.processes()).toEqual([]));
			expect(filesWith(password, host.folder) + filesWith(password, host.logFolder)).toBe("");
		});

		test("does not start a job twice, and ends it with all it started: at disable, and for other settings", async () => {
			await using host = await open({ KIT_EXAMPLE_JOB: "1" });
			await host.enable({ sequenceNumber: 1, publicSettings: { jobMs: 600_000, child: true } });
			await eventually(() => expect(linesOf(host, "worked.txt")).toEqual(["1"]));
			expect((await host.enableAgain()).output).toContain("runs already");
			expect((await host.processes()).some(({ commandLine }) => commandLine.includes(password))).toBe(false);
			await host.enable({ sequenceNumber: 2, publicSettings: { jobMs: 600_000, child: true, service: true } });
			expect(await host.waitForStatus(1)).toMatchObject({ status: "error" });
			expect(await host.waitForStatus(2)).toMatchObject({ status: "success", message: "it serves" });
			expect((await host.processes()).map(({ commandLine }) => commandLine)).toContain("sleep 600");
			expect((await host.disable()).exitCode).toBe(0);
			await eventually(async () => expect(await host.processes()).toEqual([]));
			expect(await host.readStatus(2)).toMatchObject({ status: "success" });
			expect(linesOf(host, "worked.txt")).toEqual(["1", "2"]);
		});

		test("is told as ended when its job does not hear", async () => {
			await using host = await open({ KIT_EXAMPLE_JOB: "1" });
			await host.enable({ sequenceNumber: 1, publicSettings: { jobMs: 600_000, deaf: true } });
			await eventually(() => expect(linesOf(host, "worked.txt")).toEqual(["1"]));
			const { durationMs } = await host.disable();
			expect(durationMs).toBeGreaterThan(500);
			expect(await host.readStatus(1)).toMatchObject({
				status: "error",
				message: "ended by disable before it was done",
			});
			expect(await host.processes()).toEqual([]);
		});

		test("keeps what it did over an update", async () => {
			await using host = await open({ KIT_EXAMPLE_ONCE: "1" });
			await host.enable({ sequenceNumber: 4 });
			const results = await host.update(makeKitExample(root, "1.1.0"));
			expect(results.map(({ command, exitCode }) => `${command} ${exitCode}`)).toEqual([
				"disable 0",
				"update 0",
				"uninstall 0",
				"install 0",
				"enable 0",
			]);
			expect(host.version).toBe("1.1.0");
			expect(linesOf(host, "enabled.txt")).toEqual([]);
			expect(await host.readStatus(4)).toMatchObject({ status: "success" });
			expect(readdirSync(host.folder)).toContain("mrseq");
		});
	},
);

import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { runCommandLine } from "../../command-line/run-command-line.ts";
import { type HandlerBench, makeHandlerBench } from "../fixtures/handler-bench.ts";
import { poll } from "../fixtures/poll.ts";
import { requireTools } from "../fixtures/required-tools.ts";

const missing = requireTools("root", "unshare", "mount", "openssl", "python3");
const shell = "Contoso.ShellHandler";
const python = "Fabrikam.PythonHandler";
const azureFolders = ["/var/lib/waagent", "/var/log/azure"];

/** In this order, on one agent: each test begins where the one before ended. */
describe.skipIf(missing)(`handlers written for Azure's agent run unmodified${missing ? `: ${missing}` : ""}`, () => {
	/** The folders themselves stay while another agent on this machine, such as another test's, has them mounted. */
	const inHostFolders = () => azureFolders.filter((path) => existsSync(path)).flatMap((path) => readdirSync(path));
	let bench: HandlerBench;

	const shellHistory = () => bench.viewLines(shell, "shell-history");
	const pythonHistory = () => bench.viewLines(python, "python-history");
	const worked = (lines: readonly string[]) => lines.filter((line) => line.includes("worked"));
	const settings = (entry: string, file: string) =>
		JSON.parse(readFileSync(bench.installedPath(entry, `config/${file}`), "utf8")).runtimeSettings[0].handlerSettings;

	beforeAll(async () => {
		bench = makeHandlerBench();
		bench.addPackage("shell-handler");
		bench.addPackage("python-handler");
		bench.want(shell, {
			sequenceNumber: 4,
			publicSettings: { greeting: "hello" },
			protectedSettings: { password: "shell-secret-1" },
		});
		bench.want(python, {
			instances: {
				red: { sequenceNumber: 1, protectedSettings: { password: "red-secret" } },
				blue: { sequenceNumber: 7, publicSettings: { wrong: true } },
				green: { dependsOn: [`${python}/red`, shell] },
				after: { dependsOn: [`${python}/blue`] },
				ring: { dependsOn: [`${python}/ring2`] },
				ring2: { dependsOn: [`${python}/ring`] },
				lost: { dependsOn: ["Nobody"] },
			},
		});
		writeFileSync(join(bench.folders.root, "extensions.d", "Bad.json"), '{"version":1,"name":"Bad","stte":"enabled"}');
		await bench.start();
	});
	afterAll(async () => {
		await bench?.[Symbol.asyncDispose]();
	});

	test("in sh: its secret decrypted from the path in its code, a daemon, a heartbeat, an event", async () => {
		const one = await bench.until(shell, (found) => found.status === "success" && found.heartbeat?.state === "ready");
		expect(one).toMatchObject({ state: "Enabled", sequenceNumber: 4, health: "ok", restarts: 0, code: 0 });
		expect(one.message).toBe(`done in /var/lib/waagent/${shell}-1.0`);
		expect(one.processes.length).toBeGreaterThan(0);
		expect(one.lastCommand).toMatchObject({ command: "enable", exitStatus: 0, timedOut: false });
		expect(one.limitsNotEnforced).toEqual(["CPU 10 %", "memory 50 MB"]);
		expect(worked(shellHistory())).toEqual(["worked seq=4 greeting=hello secret={password:shell-secret-1}"]);
		await poll(() => bench.folders.readLog()).toContain("event: shell handler at work");
	});

	test("in Python: instances beside each other, each job accepted and ended by itself", async () => {
		await bench.until(`${python}/red`, (found) => found.status === "success");
		const blue = await bench.until(`${python}/blue`, (found) => found.status === "error" && found.error !== undefined);
		expect(blue).toMatchObject({ code: 7, message: "finished 7", error: { code: "extension-failed" } });
		expect(blue.substatus).toMatchObject([{ name: "step", status: "error", message: "sub finished 7" }]);
		expect(pythonHistory().some((line) => line.startsWith("red. worked 1 red-secret"))).toBe(true);
		expect(pythonHistory()[0]).toContain("AZURE_GUEST_AGENT_UNINSTALL_CMD_EXIT_CODE=NOT_RUN");
	});

	test("only what depends on a failure is skipped; cycles and unknown names are told by their names", async () => {
		await bench.until(`${python}/green`, (found) => found.status === "success");
		const all = await bench.list();
		const errorOf = (instance: string) => all.find((one) => one.instance === instance)?.error;
		expect(errorOf("after")).toMatchObject({ code: "extension-skipped", message: expect.stringContaining("blue") });
		expect(errorOf("ring")?.message).toContain("ring2 -> Fabrikam.PythonHandler/ring");
		expect(errorOf("lost")?.message).toContain("there is no enabled extension Nobody");
		expect(all.find(({ name }) => name === "Bad")?.error).toMatchObject({
			code: "settings-invalid",
			message: expect.stringMatching(/Bad\.json.*stte/),
		});
		const skipped = JSON.parse(readFileSync(bench.installedPath(`${python}-1.0.0`, "status/after.0.status"), "utf8"));
		expect(skipped[0].status).toMatchObject({ status: "error", formattedMessage: { message: /blue/ } });
		expect(pythonHistory().some((line) => line.startsWith("after."))).toBe(false);
	});

	test("no handler sees another's keys, and the host's own folders stay empty", () => {
		const seen = readFileSync(bench.installedPath(`${shell}-1.0`, "seen-lib"), "utf8")
			.trim()
			.split("\n");
		const thumb = settings(`${shell}-1.0`, "4.settings").protectedSettingsCertThumbprint;
		expect(seen.sort()).toEqual([`${thumb}.crt`, `${thumb}.prv`, `${shell}-1.0`, "shell-history"].sort());
		expect(readFileSync(bench.installedPath(`${shell}-1.0`, "seen-logs"), "utf8").trim()).toBe(shell);
		const [, list] = /red-secret (.*)$/m.exec(pythonHistory().join("\n")) ?? [];
		expect(list?.split(",").filter((name) => /\.(crt|prv)$/.test(name))).toHaveLength(2);
		expect(list).not.toContain(thumb);
		for (const folder of azureFolders)
			expect(readdirSync(folder).filter((name) => /Contoso|Fabrikam/.test(name))).toEqual([]);
		expect(statSync(bench.viewPath(shell, `${thumb}.prv`)).mode & 0o777).toBe(0o600);
	});

	test("a secret is in no log, and in no file of ours but encrypted", () => {
		expect(bench.folders.readLog()).not.toMatch(/shell-secret|red-secret/);
		const text = JSON.stringify(settings(`${shell}-1.0`, "4.settings"));
		expect(text).not.toContain("secret-1");
		expect(settings(`${shell}-1.0`, "4.settings").protectedSettings).toMatch(/^MII/);
	});

	test("HandlerEnvironment.json names Azure's paths, the state files say Enabled", () => {
		const [file] = JSON.parse(readFileSync(bench.installedPath(`${shell}-1.0`, "HandlerEnvironment.json"), "utf8"));
		expect(file).toMatchObject({
			name: shell,
			version: 1,
			handlerEnvironment: {
				logFolder: `/var/log/azure/${shell}`,
				configFolder: `/var/lib/waagent/${shell}-1.0/config`,
				eventsFolder: `/var/log/azure/${shell}/events`,
				eventsFolder_preview: `/var/log/azure/${shell}/events`,
			},
		});
		const state = (entry: string, file: string) => readFileSync(bench.installedPath(entry, `config/${file}`), "utf8");
		expect(state(`${shell}-1.0`, "HandlerState")).toBe("Enabled");
		expect(state(`${python}-1.0.0`, "red.HandlerState")).toBe("Enabled");
		expect(JSON.parse(state(`${shell}-1.0`, "HandlerStatus"))).toMatchObject({ status: "Ready", code: 0 });
		expect(readFileSync(join(bench.folders.flags.logDir, python, "CommandExecution_red.log"), "utf8")).toContain(
			"enable of Fabrikam.PythonHandler/red 1.0.0: exit status 0",
		);
	});

	test("a killed daemon is noticed and started again; its work is not done twice", async () => {
		const one = await bench.until(shell, (found) => found.processes.length > 0);
		for (const pid of one.processes) process.kill(pid, "SIGKILL");
		const again = await bench.until(shell, (found) => found.restarts === 1 && found.health === "ok");
		expect(again.processes).not.toEqual(one.processes);
		expect(worked(shellHistory())).toHaveLength(1);
	});

	test("an agent that starts again runs `enable` again, finds the daemon alive, and nothing is done twice", async () => {
		const daemon = Number(readFileSync(bench.installedPath(`${shell}-1.0`, "daemon.pid"), "utf8"));
		expect((await bench.until(shell, (found) => found.processes.length > 0)).processes).toContain(daemon);
		const first = await bench.start().catch(() => undefined);
		expect((await first?.exited)?.output).toContain("already-running");
		await bench.restart();
		const one = await bench.until(shell, (found) => found.state === "Enabled" && found.status === "success");
		expect(one.processes).toContain(daemon);
		await bench.until(`${python}/red`, (found) => found.state === "Enabled");
		expect(worked(shellHistory())).toHaveLength(1);
		expect(shellHistory().filter((line) => line === "enable seq=4")).toHaveLength(3);
		expect(worked(pythonHistory()).filter((line) => line.startsWith("red."))).toHaveLength(1);
	});

	test("a new sequence number is new work; the secrets of the old one are blanked", async () => {
		bench.want(shell, { sequenceNumber: 5, publicSettings: { greeting: "again" }, protectedSettings: { a: "b" } });
		await bench.apply();
		await bench.until(shell, (found) => found.sequenceNumber === 5 && found.status === "success");
		expect(worked(shellHistory()).at(-1)).toBe("worked seq=5 greeting=again secret={a:b}");
		expect(settings(`${shell}-1.0`, "4.settings").protectedSettings).toBe("");
		const mtime = (file: string) => statSync(bench.installedPath(`${shell}-1.0`, `config/${file}`)).mtimeMs;
		expect(mtime("5.settings")).toBeGreaterThan(mtime("4.settings"));
	});

	test("the command line lists and shows them", async () => {
		const run = async (...words: string[]) => {
			const printed: string[] = [];
			const print = (text: string) => void printed.push(text);
			const context = {
				environment: {},
				stopping: new AbortController().signal,
				signalled: () => undefined,
				stdout: print,
				stderr: print,
				isTerminal: false,
			};
			const status = await runCommandLine(["extensions", ...words, "--run-dir", bench.folders.flags.runDir], context);
			return { status, out: printed.join("") };
		};
		expect((await run()).out).toMatch(/Contoso\.ShellHandler +1\.0 +Enabled +success +ok/);
		expect((await run("show", `${python}/red`)).out).toMatch(/Fabrikam\.PythonHandler\/red\n +version +1\.0\.0/);
		expect(JSON.parse((await run("list", "--json")).out).extensions.length).toBeGreaterThan(3);
		expect((await run("show", "Nobody")).status).toBe(2);
	});

	test("disabled: its processes are ended; uninstalled: nothing of it is left but its logs", async () => {
		const { processes } = await bench.until(shell, (found) => found.processes.length > 0);
		bench.want(shell, { state: "disabled", sequenceNumber: 5 });
		bench.want(python, { instances: { red: { sequenceNumber: 1 }, blue: { sequenceNumber: 7, state: "disabled" } } });
		await bench.apply();
		await bench.until(shell, (found) => found.state === "Disabled" && found.lastCommand?.command === "disable");
		await poll(() => processes.filter((pid) => existsSync(`/proc/${pid}/cwd/.`))).toEqual([]);
		await bench.until(`${python}/blue`, (found) => found.state === "Disabled");
		await poll(() => pythonHistory().filter((line) => line.includes("disable"))).toContain("green. disable 0 ");
		bench.want(shell, { state: "uninstalled", sequenceNumber: 5 });
		bench.want(python, { state: "uninstalled" });
		await bench.apply();
		await poll(() => existsSync(bench.installedPath(`${shell}-1.0`, ""))).toBe(false);
		await poll(() => existsSync(bench.installedPath(`${python}-1.0.0`, ""))).toBe(false);
		await poll(() => existsSync(bench.viewPath(shell, ""))).toBe(false);
		expect(existsSync(join(bench.folders.flags.logDir, shell, "CommandExecution.log"))).toBe(true);
		await bench.until(shell, (found) => found.state === "Uninstalled");
		await poll(inHostFolders).toEqual([]);
	});
});

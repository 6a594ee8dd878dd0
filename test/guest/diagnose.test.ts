/** `stillpoint diagnose` on a machine that is full of secrets: none of them may stand in the bundle. */
import { generateKeyPairSync } from "node:crypto";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { gunzipSync } from "node:zlib";
import { execa } from "execa";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { openJournal } from "../../agent/journal.ts";
import { countSecrets, packBundle, writeBundle } from "../../command-line/diagnose/write-bundle.ts";
import { commandOutputs } from "../../contracts/command-output.ts";
import { orderSchema } from "../../contracts/order.ts";
import { makeFakeReport } from "../fakes/fake-report.ts";
import { type LoopFileSystem, makeLoopFileSystem, startGuard } from "../fixtures/loop-file-system.ts";
import { runInMemory } from "../fixtures/memory-context.ts";
import { requireTools } from "../fixtures/required-tools.ts";

const missing = requireTools("root", "mkfs.ext4", "losetup", "bash");

describe.skipIf(missing)(`stillpoint diagnose${missing ? `: ${missing}` : ""}`, () => {
	const stack = new AsyncDisposableStack();
	const planted: string[] = [];
	let dir: string;
	let fileSystem: LoopFileSystem;

	/** A secret of its own for each place, so that one that gets through tells where. */
	function plant(place: string): string {
		const secret = `${place}-Hx7pQ${planted.length}zR`;
		planted.push(secret);
		return secret;
	}

	const at = (...names: string[]) => join(dir, ...names);

	function write(path: string, content: unknown): void {
		mkdirSync(join(path, ".."), { recursive: true, mode: 0o700 });
		writeFileSync(path, typeof content === "string" ? content : JSON.stringify(content), { mode: 0o600 });
	}

	beforeAll(async () => {
		dir = mkdtempSync("/var/lib/stillpoint-test-diagnose-");
		stack.defer(() => rmSync(dir, { recursive: true, force: true }));
		stack.use(startGuard({ dir, limitMs: 110_000 }));
		fileSystem = stack.use(await makeLoopFileSystem({ dir, fsType: "ext4", sizeMiB: 16, name: "one" }));
		plantEverywhere();
	});
	afterAll(() => stack.disposeAsync());

	function plantEverywhere(): void {
		const { privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
		const pem = String(privateKey.export({ type: "pkcs8", format: "pem" }));
		planted.push(...pem.split("\n").filter((line) => line !== "" && !line.startsWith("-----")));
		write(at("agent.json"), {
			version: 1,
			fileSystems: { include: [{ mountPoint: fileSystem.mountPoint }] },
			scriptsFolder: at("scripts.d"),
			otherScripts: { azureFolder: null, qemuHookFolders: [], vmwareHookFolders: [] },
			extensions: { settingsFolder: at("extensions.d") },
			controller: { proxy: `http://proxy:${plant("proxy")}@127.0.0.1:3128` },
		});
		write(at("state", "enrolment", "enrolment.json"), { key: pem });
		write(at("state", "enrolment", "ticket.json"), { version: 1, agentId: "a", ticket: "t", token: plant("ticket") });
		write(at("state", "keys", "AA.prv"), pem);
		write(at("extensions.d", "Acme.json"), {
			version: 1,
			name: "Acme",
			publicSettings: {
				note: "shown",
				accountKey: plant("public"),
				url: `https://b.example/c?sv=1&sig=${plant("sas")}`,
			},
			protectedSettings: { anything: plant("protected"), deep: [{ plain: plant("deep") }] },
		});
		write(at("extensions.d", "Many.json"), {
			version: 1,
			name: "Many",
			instances: { a: { protectedSettings: { anything: plant("instance") } } },
		});
		write(at("db.cnf"), `# comment\npassword = ${plant("credentials")}\n`);
		write(at("script"), "#!/bin/sh\nexit 0\n");
		write(at("scripts.d", "db.json"), {
			version: 1,
			application: "db",
			pre: {
				command: [
					at("script"),
					"--credentials",
					at("db.cnf"),
					"--password",
					plant("option"),
					`--token=${plant("equals")}`,
				],
			},
			post: { command: [at("script")] },
		});
		write(at("scripts.d", "bad.json"), `{"secret": "${plant("bad")}"`);
		write(
			at("log", "agent.log"),
			[
				`2026-01-01T00:00:00.000Z info  said Authorization: Bearer ${plant("bearer")}`,
				`2026-01-01T00:00:00.000Z warn  GET https://u:${plant("user")}@h.example/x?code=${plant("query")} failed`,
				`2026-01-01T00:00:00.000Z warn  {"password":"${plant("json-log")}"} and ${pem.replaceAll("\n", " ")}`,
				// Nothing but that they are known tells these two: the protected setting, and the file of credentials.
				`2026-01-01T00:00:00.000Z warn  the server said ${planted.find((one) => one.startsWith("protected"))}`,
				`2026-01-01T00:00:00.000Z warn  and again ${planted.find((one) => one.startsWith("credentials"))}`,
				"2026-01-01T00:00:00.000Z info  a line that stays",
			].join("\n"),
		);
		const journal = openJournal(at("state", "journal.db"));
		const order = orderSchema.parse({ jobId: "night-1", level: "crash", acceptLevel: "crash", disks: "all" });
		const script = { name: "db", phase: "pre" as const, timedOut: false, durationMs: 1 };
		const outputTail = `connecting with PGPASSWORD=${plant("tail")}\ncookie: ${plant("cookie")}\n`;
		const report = { ...makeFakeReport(order, "crash"), scripts: [{ ...script, outputTail }] };
		const createdAt = "2026-01-01T00:00:00.000Z";
		const job = { jobId: "night-1", order, asker: "local" as const, createdAt };
		journal.addJob({ ...job, phase: "running" });
		journal.endJob({ ...job, phase: "done", report }, undefined);
		journal[Symbol.dispose]();
	}

	const environment = () => ({
		STILLPOINT_TOKEN: plant("environment"),
		STILLPOINT_CONTROLLER_URL: `https://u:${plant("variable")}@c.example`,
	});

	async function diagnose(file: string, more: string[] = [], variables = environment()) {
		const folders = [
			"--state-dir",
			at("state"),
			"--log-dir",
			at("log"),
			"--run-dir",
			at("run"),
			"--config",
			at("agent.json"),
		];
		const words = ["diagnose", "--json", "--disk", basename(fileSystem.device), ...folders, "--output", file, ...more];
		const { stdout, status } = await runInMemory(words, { environment: variables });
		return { printed: JSON.parse(stdout), status };
	}

	test("none of the secrets that lie everywhere stands in the bundle, and what a helper needs does", async () => {
		const file = at("bundle.tar.gz");
		const { printed, status } = await diagnose(file);
		expect([status, printed.error]).toEqual([0, undefined]);
		expect(commandOutputs.diagnose.parse(printed)).toEqual(printed);
		expect(statSync(file).mode & 0o777).toBe(0o600);
		const packed = gunzipSync(new Uint8Array(readFileSync(file)));
		expect(planted.length).toBeGreaterThan(18);
		expect(planted.filter((secret) => countSecrets(packed, [secret]) > 0)).toEqual([]);
		expect(
			printed.entries.flatMap(({ name, error }: { name: string; error?: string }) => (error ? [name] : [])),
		).toEqual(["status.json", "extensions.json"]);
		const list = (await execa("tar", ["-tzf", file])).stdout.split("\n").map((one) => basename(one));
		for (const { name } of printed.entries) expect(list).toContain(name);
		const text = packed.toString();
		for (const one of [
			"a line that stays",
			"night-1",
			fileSystem.mountPoint,
			'"note": "shown"',
			"h.example",
			"PGPASSWORD=[redacted]",
		])
			expect(text).toContain(one);
	});

	test("the same search finds them where nothing was taken out, and then no file is written", async () => {
		const raw = [
			"agent.json",
			"log/agent.log",
			"extensions.d/Acme.json",
			"extensions.d/Many.json",
			"scripts.d/db.json",
			"scripts.d/bad.json",
			"db.cnf",
		];
		const entries = [...raw, "state/enrolment/enrolment.json", "state/enrolment/ticket.json", "state/journal.db"].map(
			(name) => ({
				name,
				text: readFileSync(at(name), "latin1"),
			}),
		);
		const packed = await packBundle("raw", entries);
		const elsewhere = ["environment", "variable"];
		const found = planted.filter((one) => !elsewhere.some((place) => one.startsWith(place)));
		expect(countSecrets(packed, found)).toBe(found.length);
		const file = at("never.tar.gz");
		await expect(writeBundle(file, packed, planted)).rejects.toMatchObject({ code: "internal" });
		expect(existsSync(file)).toBe(false);
	});

	test("a file that exists stays as it is", async () => {
		write(at("mine"), "mine");
		const { printed, status } = await diagnose(at("mine"));
		expect([printed.error.code, status, readFileSync(at("mine"), "utf8")]).toEqual(["name-taken", 2, "mine"]);
	});

	test("works with a configuration that has faults, and tells them", async () => {
		const file = at("faulty.tar.gz");
		const extensions = { settingsFolder: at("extensions.d") };
		const faults = { holdLimitMs: 1, apiToken: plant("faulty") };
		write(at("faulty.json"), { version: 1, scriptsFolder: at("scripts.d"), extensions, ...faults });
		const { printed, status } = await diagnose(file, ["--config", at("faulty.json")]);
		expect([status, printed.error]).toEqual([0, undefined]);
		const text = gunzipSync(new Uint8Array(readFileSync(file))).toString();
		expect(text).toContain("holdLimitMs");
		expect(planted.filter((secret) => text.includes(secret))).toEqual([]);
	});
});

import assert from "node:assert/strict";
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import * as fc from "fast-check";
import { LineSplitter } from "../../../extensions/vm-snapshot-linux/script-runner/line-splitter.ts";
import { OutputTail } from "../../../extensions/vm-snapshot-linux/script-runner/output-tail.ts";
import { parseScriptHead } from "../../../extensions/vm-snapshot-linux/script-runner/script-head.ts";
import { parsePluginHost } from "../../../extensions/vm-snapshot-linux/script-runner/sources/azure-plugin-host.ts";
import {
	findMisspeltKeys,
	parseAzureScriptConfig,
} from "../../../extensions/vm-snapshot-linux/script-runner/sources/azure-script-config.ts";
import {
	namesWorkload,
	parseAzureWorkload,
} from "../../../extensions/vm-snapshot-linux/script-runner/sources/azure-workload-config.ts";
import {
	mysqlLogin,
	oracleLogin,
	postgresLogin,
} from "../../../extensions/vm-snapshot-linux/script-runner/sources/azure-workload-login.ts";
import { parseIni } from "../../../extensions/vm-snapshot-linux/script-runner/sources/parse-ini.ts";
import {
	applicationOf,
	parseDropIn,
	readDropIns,
} from "../../../extensions/vm-snapshot-linux/script-runner/sources/read-drop-ins.ts";
import {
	qemuHooks,
	readHookFolders,
} from "../../../extensions/vm-snapshot-linux/script-runner/sources/read-hook-folders.ts";
import { readUndoFiles } from "../../../extensions/vm-snapshot-linux/script-runner/undo-list.ts";
import { type FuzzTarget, fuzzTarget, neverThrows } from "../fuzz-target.ts";
import { hostileText } from "../inputs/hostile-values.ts";
import { mutatedBytes } from "../inputs/mutated-bytes.ts";
import { mutatedJson, mutatedValue } from "../inputs/mutated-json.ts";
import { mutatedText } from "../inputs/mutated-text.ts";
import { azureScriptConfigs, dropIns, undoFiles } from "../samples/script-documents.ts";
import { pluginHosts, scriptHeads, workloadConfs } from "../samples/texts.ts";

const words = /([=:\s]+)/;
const mostBytes = 64 * 1024;
/** What is larger is not read. */
const upToLimit = (text: string) => text.slice(0, mostBytes);

export function scriptConfigTargets(folder: string): FuzzTarget[] {
	const scripts = join(folder, "scripts.d");
	const undo = join(folder, "run/undo");
	for (const one of [scripts, undo]) mkdirSync(one, { recursive: true });
	const trusted = () => Promise.resolve();
	return [
		fuzzTarget({
			name: "script-drop-in",
			parser: "script-runner/sources/read-drop-ins.ts readDropIns, parseDropIn",
			inputs: mutatedJson(fc.constantFrom(...dropIns)),
			run: async (text) => {
				writeFileSync(join(scripts, "db.json"), text);
				const found = await readDropIns(scripts, trusted);
				for (const { error } of found.bad) assert.notEqual(error.code, "internal", error.stack);
			},
			mayThrow: neverThrows,
		}),
		fuzzTarget({
			name: "script-drop-in-value",
			parser: "script-runner/sources/read-drop-ins.ts parseDropIn",
			inputs: mutatedValue(fc.constantFrom(...dropIns)),
			run: (value) => {
				const { pre, session, post } = applicationOf("db", parseDropIn(value, "/d.json"));
				assert.ok([pre, session, post].some((step) => step?.command[0]?.startsWith("/")));
			},
		}),
		fuzzTarget({
			name: "azure-script-config",
			parser: "script-runner/sources/azure-script-config.ts parseAzureScriptConfig, findMisspeltKeys",
			inputs: mutatedJson(fc.constantFrom(...azureScriptConfigs)).map(upToLimit),
			run: (text) => {
				const config = parseAzureScriptConfig(text, "/c.json");
				findMisspeltKeys(text, "/c.json");
				assert.ok(config.timeoutInSeconds > 0 && config.preScriptNoOfRetries <= 10_000);
			},
		}),
		fuzzTarget({
			name: "azure-plugin-host",
			parser: "script-runner/sources/azure-plugin-host.ts parsePluginHost",
			inputs: mutatedText(pluginHosts, words).map(upToLimit),
			run: (text) => {
				const { timeoutMs, plugins } = parsePluginHost(text, "/p.conf");
				assert.ok(timeoutMs > 0 && timeoutMs <= 1_800_000 && plugins.length <= 16);
			},
		}),
		fuzzTarget({
			name: "workload-conf",
			parser: "script-runner/sources/azure-workload-config.ts parseAzureWorkload, namesWorkload",
			inputs: mutatedText(workloadConfs, words).map(upToLimit),
			run: (text) => {
				namesWorkload(text, "/w.conf");
				const workload = parseAzureWorkload(text, "/w.conf");
				for (const option of workload?.options ?? []) assert.ok(!option.includes("\0"));
			},
		}),
		fuzzTarget({
			name: "ini",
			parser: "script-runner/sources/parse-ini.ts parseIni",
			inputs: mutatedText([...workloadConfs, ...pluginHosts, `[a]\n${" x\n".repeat(20_000)}`], words).map(upToLimit),
			run: (text) => void parseIni(text, "/i.conf"),
		}),
		fuzzTarget({
			name: "ini-round-trip",
			parser: "script-runner/sources/parse-ini.ts parseIni",
			inputs: fc.uniqueArray(
				fc.tuple(fc.stringMatching(/^[a-z][a-z0-9_.]{0,9}$/), fc.stringMatching(/^[ -~]{0,30}$/)),
				{ selector: ([key]) => key },
			),
			run: (pairs) => {
				const text = `[s]\n${pairs.map(([key, value]) => `${key} = ${value.replaceAll("%", "%%")}`).join("\n")}\n`;
				const found = parseIni(text, "/i.conf").get("s") ?? new Map<string, string>();
				assert.deepEqual(
					[...found],
					pairs.map(([key, value]) => [key, value.trim()]),
				);
			},
			mayThrow: neverThrows,
		}),
		fuzzTarget({
			name: "workload-login",
			parser: "script-runner/sources/azure-workload-login.ts mysqlLogin, postgresLogin, oracleLogin",
			inputs: mutatedText(
				["-U backup --port=5433 -h /run/pg -d shop", "/etc/secret.conf", "--defaults-extra-file=/a b", "/ as sysdba"],
				/([=\s]+)/,
			),
			run: (text) => {
				for (const login of [mysqlLogin, postgresLogin, oracleLogin])
					for (const word of login(text, ["--os-user", "me"]) ?? []) assert.ok(!/\s/.test(word), word);
			},
			mayThrow: neverThrows,
		}),
		fuzzTarget({
			name: "script-head",
			parser: "script-runner/script-head.ts parseScriptHead",
			inputs: mutatedBytes(scriptHeads.map((text) => Buffer.from(text, "latin1"))).map((bytes) =>
				bytes.subarray(0, 256),
			),
			run: (head) => void parseScriptHead(head, "/s"),
		}),
		fuzzTarget({
			name: "session-lines",
			parser: "script-runner/line-splitter.ts LineSplitter, output-tail.ts OutputTail",
			inputs: fc.array(
				fc.oneof(
					fc.uint8Array({ maxLength: 200 }).map((bytes) => Buffer.from(bytes)),
					hostileText.map((text) => Buffer.from(text)),
				),
				{ maxLength: 30 },
			),
			run: (chunks) => {
				const limit = 100;
				const [splitter, lines, tail] = [new LineSplitter(limit), [] as string[], new OutputTail(64)];
				splitter.listen((line) => void lines.push(line));
				for (const chunk of chunks) {
					splitter.push(chunk);
					tail.push(chunk);
				}
				splitter.end();
				const whole = Buffer.concat(chunks).toString("utf8");
				const expected = (whole.endsWith("\n") || whole === "" ? whole.slice(0, -1) : whole).split("\n");
				const cut = expected.map((line) => (line.length > limit ? `${line.slice(0, limit)}…` : line.trimEnd()));
				if (whole === "") assert.deepEqual(lines, []);
				// What ends in the middle of a character shows no mark for it.
				else if (!whole.includes("\ufffd")) assert.deepEqual(lines, cut);
				assert.ok(Buffer.byteLength(tail.text()) <= 3 * 64);
			},
			mayThrow: neverThrows,
		}),
		fuzzTarget({
			name: "undo-files",
			parser: "script-runner/undo-list.ts readUndoFiles",
			inputs: mutatedJson(fc.constantFrom(...undoFiles)),
			run: (text) => {
				writeFileSync(join(undo, "job-1.json"), text, { mode: 0o600 });
				const bad: string[] = [];
				readUndoFiles(join(folder, "run"), (error) => void bad.push(error.code));
				for (const code of bad) assert.equal(code, "state-unusable");
			},
			mayThrow: neverThrows,
		}),
		fuzzTarget({
			name: "hook-folder",
			parser: "script-runner/sources/read-hook-folders.ts readHookFolders",
			inputs: fc.uniqueArray(fc.tuple(fc.uint8Array({ minLength: 1, maxLength: 40 }), fc.boolean()), { maxLength: 6 }),
			run: async (entries) => {
				const hooks = join(folder, "hooks");
				rmSync(hooks, { recursive: true, force: true });
				mkdirSync(hooks);
				for (const [name, runs] of entries) {
					const bytes = Buffer.from(name.map((byte) => (byte === 0 || byte === 0x2f ? 0x61 : byte)));
					if ([".", ".."].includes(bytes.toString("latin1"))) continue;
					writeFileSync(Buffer.concat([Buffer.from(`${hooks}/`), bytes]), "#!/bin/sh\n", {
						mode: runs ? 0o700 : 0o600,
					});
				}
				const found = await readHookFolders([hooks], qemuHooks, {
					checkTrust: trusted,
					deadlineMs: 1_000,
					seen: new Set(),
				});
				for (const { error } of found.bad) assert.notEqual(error.code, "internal", error.stack);
			},
			mayThrow: neverThrows,
		}),
	];
}

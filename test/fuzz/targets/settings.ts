import assert from "node:assert/strict";
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import * as fc from "fast-check";
import { checkConfig } from "../../../agent/check-config.ts";
import { parseEvent } from "../../../agent/extension-host/collect-events.ts";
import { parseCommandLine } from "../../../agent/extension-host/command-line-words.ts";
import { parseHandlerStatus } from "../../../agent/extension-host/handler-status-file.ts";
import { parseHeartbeat } from "../../../agent/extension-host/heartbeat.ts";
import { parseGoalState } from "../../../agent/extension-host/read-goal-states.ts";
import { readManifest } from "../../../agent/extension-host/read-manifest.ts";
import { findKeyLines } from "../../../agent/json-lines.ts";
import { joinLayers, loadConfig, parseConfigText } from "../../../agent/load-config.ts";
import { checkShape } from "../../../contracts/check-shape.ts";
import { StillpointError } from "../../../contracts/errors.ts";
import { fileSystemFiltersSchema } from "../../../contracts/extension.ts";
import { blankProtectedSettings } from "../../../extensions/kit/blank-protected-settings.ts";
import { findDetachedJob } from "../../../extensions/kit/detached-job.ts";
import { readHandlerEnvironment } from "../../../extensions/kit/handler-environment.ts";
import { readHandlerSettings } from "../../../extensions/kit/handler-settings.ts";
import { instancePrefix, parseSequenceNumber } from "../../../extensions/kit/instance-name.ts";
import { decryptProtectedSettings } from "../../../extensions/kit/protected-settings.ts";
import { findTaskId, parseAzureCommand } from "../../../extensions/vm-snapshot-linux/azure/azure-task.ts";
import { loadGuestConfig } from "../../../extensions/vm-snapshot-linux/azure/guest-config.ts";
import { isEndTold } from "../../../extensions/vm-snapshot-linux/azure/status-files.ts";
import { openTaskStore } from "../../../extensions/vm-snapshot-linux/azure/task-store.ts";
import { isWanted } from "../../../platform/linux/file-system-filters.ts";
import { type FuzzTarget, fuzzTarget, neverThrows } from "../fuzz-target.ts";
import { hostileText } from "../inputs/hostile-values.ts";
import { mutatedBytes } from "../inputs/mutated-bytes.ts";
import { mutatedJson, mutatedValue } from "../inputs/mutated-json.ts";
import { mutatedText } from "../inputs/mutated-text.ts";
import { agentConfigs, azureProtected, azurePublic, goalStates, handlerFiles } from "../samples/settings-documents.ts";

export function settingsTargets(folder: string): FuzzTarget[] {
	const json = (samples: readonly unknown[]) => mutatedJson(fc.constantFrom(...samples));
	const configFile = join(folder, "agent.json");
	const packageFolder = join(folder, "package");
	for (const name of ["", "config", "status", "log"]) mkdirSync(join(packageFolder, name), { recursive: true });
	const write = (name: string, text: string) => writeFileSync(join(packageFolder, name), text);
	const environment = { logFolder: join(packageFolder, "log"), configFolder: join(packageFolder, "config") };
	const more = { statusFolder: join(packageFolder, "status"), heartbeatFile: join(packageFolder, "heartbeat") };
	write("HandlerEnvironment.json", JSON.stringify([{ version: 1, handlerEnvironment: { ...environment, ...more } }]));
	const otherFolder = join(folder, "other");
	mkdirSync(otherFolder, { recursive: true });
	return [
		fuzzTarget({
			name: "agent-config",
			parser: "agent/load-config.ts parseConfigText, loadConfig; agent/check-config.ts checkConfig",
			inputs: fc.tuple(json(agentConfigs), fc.option(hostileText, { nil: undefined })),
			run: async ([text, level]) => {
				writeFileSync(configFile, text);
				const given = { flags: { config: configFile }, environment: { STILLPOINT_LOG_LEVEL: level } };
				const { faults } = await checkConfig(given);
				const tree = parseConfigText(text, configFile);
				joinLayers(tree, given.environment, { onFault: () => undefined });
				// The folder is nobody's to trust, so that loading may be refused for that; never for less than checking found.
				const loaded = await loadConfig(given).catch((error) => error as StillpointError);
				if (!(loaded instanceof Error)) assert.deepEqual(faults, []);
				else assert.ok(loaded instanceof StillpointError);
			},
		}),
		fuzzTarget({
			name: "config-lines",
			parser: "agent/json-lines.ts findKeyLines",
			inputs: json(agentConfigs),
			run: (text) => {
				const count = text.split("\n").length;
				const { lines, twice } = findKeyLines(text);
				for (const line of [...lines.values(), ...twice.map((one) => one.line)]) assert.ok(line >= 1 && line <= count);
			},
			mayThrow: neverThrows,
		}),
		fuzzTarget({
			name: "file-system-filters",
			parser: "contracts/extension.ts fileSystemFiltersSchema; platform/linux/file-system-filters.ts isWanted",
			inputs: fc.tuple(
				mutatedValue(
					fc.constantFrom({
						include: [{ mountPoint: "/srv/**" }],
						exclude: [{ mountPoint: "/{a,b}/*[0-9]", fsType: "xfs" }],
					}),
				),
				fc.oneof(hostileText, fc.stringMatching(/^[a*/[\]{},!?\\.]{0,40}$/)),
				hostileText,
			),
			run: ([value, pattern, path]) => {
				const own = checkShape(fileSystemFiltersSchema, { include: [{ mountPoint: pattern }], exclude: [] });
				const filters = checkShape(fileSystemFiltersSchema, value).data ?? own.data;
				if (filters === undefined) return;
				const mounted = {
					superblock: "1:1",
					mountPoint: path,
					mountPoints: [path, "/srv/a"],
					fsType: "xfs",
					source: path,
				};
				isWanted({ mounted, storage: undefined, devices: [] } as unknown as Parameters<typeof isWanted>[0], filters);
			},
			mayThrow: neverThrows,
		}),
		fuzzTarget({
			name: "azure-settings",
			parser: "extensions/kit/handler-settings.ts readHandlerSettings; blank-protected-settings.ts",
			inputs: json(handlerFiles.settings),
			run: async (text) => {
				write("config/3.settings", text);
				await readHandlerSettings(packageFolder, { sequenceNumber: 3, patienceMs: 0, keyFolder: otherFolder }).catch(
					expectCode("settings-invalid"),
				);
				const settingsFile = join(packageFolder, "config/3.settings");
				await blankProtectedSettings(settingsFile);
				assert.deepEqual(secretsIn(readFileSync(settingsFile, "utf8")), []);
			},
		}),
		fuzzTarget({
			name: "handler-environment",
			parser: "extensions/kit/handler-environment.ts readHandlerEnvironment",
			inputs: json(handlerFiles.environments),
			run: async (text) => {
				writeFileSync(join(otherFolder, "HandlerEnvironment.json"), text);
				await readHandlerEnvironment(otherFolder, 0);
			},
		}),
		...protectedTargets(join(folder, "..")),
		fuzzTarget({
			name: "azure-task",
			parser: "extensions/vm-snapshot-linux/azure/azure-task.ts parseAzureCommand",
			inputs: fc
				.tuple(json(azurePublic.objects), json(azureProtected.objects), json(azurePublic.custom), padding, fc.boolean())
				.chain(([open, hidden, customSettings, pad, ascii]) => {
					const base64 = (text: string) => Buffer.from(`${pad}${text}${pad}`).toString("base64") + (ascii ? pad : "");
					const publicSettings = { ...azurePublic.settings, objectStr: base64(open), customSettings };
					return fc.tuple(
						fc.oneof(fc.constant(publicSettings), mutatedValue(fc.constant(publicSettings))),
						mutatedValue(fc.constant({ ...azureProtected.settings, objectStr: base64(hidden) })),
					);
				}),
			run: ([open, hidden]) => {
				const record = (value: unknown) => (isRecord(value) ? value : {});
				findTaskId(record(open));
				const { command } = parseAzureCommand({ publicSettings: record(open), protectedSettings: record(hidden) });
				assert.ok(command === "install" || command === "snapshot");
			},
		}),
		fuzzTarget({
			name: "azure-guest-config",
			parser: "extensions/vm-snapshot-linux/azure/guest-config.ts loadGuestConfig",
			inputs: json([
				{ version: 1 },
				{
					version: 1,
					holdLimitMs: 5_000,
					fileSystems: { exclude: [{ fsType: "xfs" }] },
					otherScripts: { azureFolder: null },
				},
			]),
			run: async (text) => {
				writeFileSync(join(otherFolder, "guest.json"), text);
				await loadGuestConfig(join(otherFolder, "guest.json"));
			},
		}),
		fuzzTarget({
			name: "azure-status",
			parser: "agent/extension-host/handler-status-file.ts parseHandlerStatus; azure/status-files.ts isEndTold",
			inputs: json(handlerFiles.statuses),
			run: async (text) => {
				parseHandlerStatus(text, "/s", 5);
				write("status/3.status", text);
				assert.equal(typeof (await isEndTold(join(packageFolder, "status"), 3)), "boolean");
			},
			mayThrow: neverThrows,
		}),
		fuzzTarget({
			name: "heartbeat",
			parser: "agent/extension-host/heartbeat.ts parseHeartbeat",
			inputs: json(handlerFiles.heartbeats),
			run: (text) => void parseHeartbeat(text),
			mayThrow: neverThrows,
		}),
		fuzzTarget({
			name: "handler-event",
			parser: "agent/extension-host/collect-events.ts parseEvent",
			inputs: mutatedValue(fc.constantFrom(...handlerFiles.events)),
			run: (value) => {
				const event = parseEvent(value, "/e");
				if (typeof event !== "string") assert.ok(Buffer.byteLength(JSON.stringify(event)) <= 6 * 1024);
			},
			mayThrow: neverThrows,
		}),
		fuzzTarget({
			name: "handler-goal-state",
			parser: "agent/extension-host/read-goal-states.ts parseGoalState",
			inputs: json(goalStates),
			run: (text) => {
				const goal = parseGoalState(text, "/g.json", "Web.Handler");
				assert.equal(goal.name, "Web.Handler");
				JSON.stringify(goal);
			},
		}),
		fuzzTarget({
			name: "handler-manifest",
			parser: "agent/extension-host/read-manifest.ts readManifest; command-line-words.ts parseCommandLine",
			inputs: json(handlerFiles.manifests),
			run: async (text) => {
				writeFileSync(join(otherFolder, "HandlerManifest.json"), text);
				const { handlerManifest } = await readManifest(otherFolder);
				const [program] = parseCommandLine(handlerManifest.enableCommand, otherFolder);
				assert.ok(program.length > 0);
			},
		}),
		fuzzTarget({
			name: "detached-job",
			parser: "extensions/kit/detached-job.ts findDetachedJob",
			inputs: json(handlerFiles.jobs),
			run: async (text) => {
				writeFileSync(join(otherFolder, "job.json"), text);
				await findDetachedJob(otherFolder);
			},
		}),
		fuzzTarget({
			name: "azure-task-store",
			parser: "extensions/vm-snapshot-linux/azure/task-store.ts openTaskStore",
			inputs: json(handlerFiles.taskStores),
			run: async (text) => {
				writeFileSync(join(otherFolder, "azure-tasks.json"), text);
				await using store = await openTaskStore(otherFolder);
				await store.save();
			},
		}),
		fuzzTarget({
			name: "instance-names",
			parser: "extensions/kit/instance-name.ts instancePrefix, parseSequenceNumber",
			inputs: fc.tuple(hostileText, mutatedText(["0", "12", "4294967296"])),
			run: ([name, number]) => {
				const prefix = instancePrefix(name);
				assert.ok(!/[/\0]/.test(prefix) && !prefix.startsWith("."));
				parseSequenceNumber(number);
			},
		}),
	];
}

/** The service pads; somebody else may pad at length. */
const padding = fc.oneof(
	{ weight: 6, arbitrary: fc.constantFrom("", "'", "''", " ", "\n") },
	{
		weight: 1,
		arbitrary: fc
			.tuple(fc.constantFrom("'", " ", "\n", "='", "="), fc.constantFrom(5_000, 300_000))
			.map(([what, times]) => `x${what.repeat(times)}x`),
	},
);

/** `keys` of the folder of samples holds THUMB.prv, THUMB.crt and settings that were encrypted for them. */
function protectedTargets(samplesFolder: string): FuzzTarget[] {
	const keys = join(samplesFolder, "keys");
	const names = readdirSync(keys, { encoding: "utf8" }).sort();
	const thumbprint = names.find((name) => name.endsWith(".prv"))?.slice(0, -".prv".length);
	const samples = names.filter((name) => name.endsWith(".cms")).map((name) => readFileSync(join(keys, name)));
	if (thumbprint === undefined || samples.length === 0) return [];
	return [
		fuzzTarget({
			name: "protected-settings",
			parser: "extensions/kit/protected-settings.ts decryptProtectedSettings; cms-enveloped-data.ts",
			inputs: fc.oneof(
				{ weight: 8, arbitrary: mutatedBytes(samples).map((bytes) => bytes.toString("base64")) },
				{ weight: 2, arbitrary: mutatedText(samples.map((bytes) => bytes.toString("base64"))) },
				{ weight: 1, arbitrary: padding },
			),
			run: async (text) => void (await decryptProtectedSettings(text, thumbprint, [keys])),
			// The kit's own: its caller makes a `StillpointError` of it, so it must never quote what was decrypted.
			mayThrow: (error) =>
				error instanceof Error && error.constructor === Error && error.message.startsWith("protectedSettings"),
		}),
	];
}

function expectCode(code: string): (error: unknown) => void {
	return (error) => {
		if (!(error instanceof StillpointError) || error.code !== code) throw error;
	};
}

function secretsIn(text: string): unknown[] {
	const json = text.replace(/^\uFEFF/, "");
	if (json === "") return [];
	const content: unknown = JSON.parse(json);
	const all = isRecord(content) ? content["runtimeSettings"] : undefined;
	return (Array.isArray(all) ? all : [])
		.map((one) => (isRecord(one) ? one["handlerSettings"] : undefined))
		.flatMap((one) => (isRecord(one) ? [one["protectedSettings"], one["protectedSettingsCertThumbprint"]] : []))
		.filter((one) => one !== undefined && one !== "");
}

function isRecord(value: unknown): value is Record<string, unknown> {
	return typeof value === "object" && value !== null && !Array.isArray(value);
}

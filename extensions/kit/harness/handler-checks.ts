/** What a handler must do to be run by hosts that follow Azure's contract. The order is that of a life. */
import { existsSync } from "node:fs";
import { readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { Check } from "./check-run.ts";
import { endFault, faultOf, lastStatusMs, makeNextVersion, silenceOn, untilRead } from "./check-steps.ts";
import { readManifest } from "./unpack-package.ts";

const afterDisableMs = 5_000;

export const handlerChecks: readonly Check[] = [
	{
		name: "the commands start files of the package",
		remedy: "Azure's agents start commands inside the package: write bin/handler enable, not node handler.ts enable.",
		async act({ host }) {
			const { handlerManifest } = await readManifest(host.folder);
			const commands = [handlerManifest.installCommand, handlerManifest.enableCommand, handlerManifest.updateCommand];
			commands.push(handlerManifest.disableCommand, handlerManifest.uninstallCommand);
			const outside = commands.filter((one) => !existsSync(join(host.folder, one.split(" ")[0] ?? "")));
			return outside.length > 0 ? outside.join("; ") : undefined;
		},
	},
	{
		name: "install succeeds",
		remedy: "It must exit with 0 within 15 minutes.",
		isVital: true,
		act: async ({ host }) => faultOf(await host.install()),
	},
	{
		name: "enable succeeds",
		remedy: "It must exit with 0 within 5 minutes; work that takes longer goes on in a process of its own.",
		isVital: true,
		act: async ({ host, settings }) => faultOf(await host.enable({ sequenceNumber: 1, ...settings })),
	},
	{
		name: "enable leaves a status",
		remedy: "Write status/N.status, N being ConfigSequenceNumber, in the contract's shape, before enable ends.",
		isVital: true,
		act: async ({ host }) => ((await host.readStatus(1)) ? undefined : "there is no status/1.status"),
	},
	{
		name: "the status comes to an end, and it is no error",
		remedy: "Every job must end in success, warning or error, also when it fails; write it at the end of the work.",
		act: async ({ host, settings }) => endFault(host, 1, settings),
	},
	{
		name: "enable repeated does nothing twice",
		remedy: "Hosts enable again at each start: keep the last sequence number in the file mrseq and compare.",
		async act({ host, settings }) {
			const kept = async () => {
				const { content: _, ...status } = (await host.readStatus(1)) ?? { content: undefined };
				const files = (settings.unchanged ?? []).map((name) => readFile(join(host.folder, name), "utf8"));
				return JSON.stringify([status, await Promise.all(files)]);
			};
			const before = await kept();
			const fault = faultOf(await host.enableAgain());
			if (fault !== undefined) return fault;
			await host.waitForStatus(1, { limitMs: settings.statusLimitMs ?? lastStatusMs });
			const after = await kept();
			return before === after ? undefined : `before: ${before.slice(0, 500)}; after: ${after.slice(0, 500)}`;
		},
	},
	{
		name: "the heartbeat is written",
		remedy: "The manifest says reportHeartbeat: write or touch the heartbeat file at least once a minute.",
		async act({ host }) {
			const { handlerManifest } = await readManifest(host.folder);
			if (!handlerManifest.reportHeartbeat) return undefined;
			const heartbeat = await host.readHeartbeat();
			if (heartbeat === undefined) return "there is none";
			return heartbeat.ready ? undefined : `it says not ready: ${heartbeat.message}`;
		},
	},
	{
		name: "half-written settings are read again",
		remedy:
			"Hosts write settings in place: read a file that is no JSON again for two seconds before you call it wrong.",
		async act({ host, settings }) {
			const whole = await host.settingsText({ sequenceNumber: 2, ...settings });
			const half = whole.slice(0, Math.floor(whole.length / 2));
			const enabling = host.enable({ sequenceNumber: 2, settingsText: half });
			const path = join(host.configFolder, "2.settings");
			await untilRead(path);
			await writeFile(path, whole);
			return faultOf(await enabling) ?? (await endFault(host, 2, settings));
		},
	},
	{
		name: "settings that are no JSON are an error",
		remedy: "Say it: an error in status/N.status, or an exit status that is not 0. Never success, never silence.",
		async act({ host, settings }) {
			return silenceOn(host, 3, settings, await host.enable({ sequenceNumber: 3, settingsText: "{ no json" }));
		},
	},
	{
		name: "wrong settings are an error",
		remedy: "Check every field that you use, and say which is wrong in status/N.status.",
		skip: ({ settings }) =>
			settings.wrongPublicSettings === undefined ? "the test settings have no wrongPublicSettings" : undefined,
		async act({ host, settings }) {
			const publicSettings = settings.wrongPublicSettings;
			return silenceOn(host, 4, settings, await host.enable({ ...settings, sequenceNumber: 4, publicSettings }));
		},
	},
	{
		name: "protected settings that cannot be decrypted are an error",
		remedy: "Do not go on without the secrets: say it in status/N.status.",
		skip: ({ settings }) => (settings.protectedSettings === undefined ? "the test settings have none" : undefined),
		async act({ host, settings }) {
			const text = JSON.parse(await host.settingsText({ sequenceNumber: 5, ...settings }));
			text.runtimeSettings[0].handlerSettings.protectedSettings = Buffer.from("not encrypted").toString("base64");
			const settingsText = JSON.stringify(text);
			return silenceOn(host, 5, settings, await host.enable({ sequenceNumber: 5, settingsText }));
		},
	},
	{
		name: "an update succeeds, and its status is told by the new version",
		remedy: "disable, update, uninstall of the old version, install and enable of the new one must each exit with 0.",
		async act(run) {
			const { host, settings } = run;
			await host.enable({ sequenceNumber: 6, ...settings });
			await host.waitForStatus(6, { limitMs: settings.statusLimitMs ?? lastStatusMs });
			const next = await makeNextVersion(run);
			try {
				const results = await host.update(next);
				const fault = results.map(faultOf).find((one) => one !== undefined);
				return fault ?? (await endFault(host, 6, settings));
			} finally {
				await rm(next, { recursive: true, force: true });
			}
		},
	},
	{
		name: "events have every field",
		remedy: "Version, Timestamp, TaskName, EventLevel, Message, EventPid, EventTid and OperationId are all required.",
		async act({ host }) {
			const fields = [
				"Version",
				"Timestamp",
				"TaskName",
				"EventLevel",
				"Message",
				"EventPid",
				"EventTid",
				"OperationId",
			];
			const lacking = (await host.readEvents()).flatMap((event) =>
				fields.filter((field) => event[field] === undefined),
			);
			return lacking.length > 0 ? `missing: ${[...new Set(lacking)].join(", ")}` : undefined;
		},
	},
	{
		name: "disable succeeds",
		remedy: "It must exit with 0, also when nothing runs.",
		act: async ({ host }) => faultOf(await host.disable()),
	},
	{
		name: "nothing runs after disable",
		remedy: "End all that enable started, with what that started: remember its process group.",
		async act({ host }) {
			const deadline = performance.now() + afterDisableMs;
			for (;;) {
				const left = await host.processes();
				if (left.length === 0) return undefined;
				if (performance.now() >= deadline) return left.map((one) => `${one.pid}: ${one.commandLine}`).join("; ");
				await sleep(50);
			}
		},
	},
	{
		name: "secrets are in no file and on no command line",
		remedy: "Decrypt in memory; hand secrets on by stdin or a descriptor; keep them out of logs and status files.",
		skip: ({ secrets }) => (secrets.length === 0 ? "the test settings have no protectedSettings" : undefined),
		act: async ({ leaks }) => (leaks.size > 0 ? [...leaks].join(", ") : undefined),
	},
	{
		name: "uninstall succeeds",
		remedy: "It must exit with 0 within 5 minutes.",
		act: async ({ host }) => faultOf(await host.uninstall()),
	},
];

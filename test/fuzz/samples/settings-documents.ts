/** Good documents of configuration and of handlers: what mutations begin with. */
export const agentConfigs = [
	{ version: 1 },
	{
		version: 1,
		fileSystems: { include: [{ mountPoint: "/srv/*" }], exclude: [{ fsType: "xfs", device: "/dev/vdb" }] },
		holdLimitCapMs: 30_000,
		freeze: { expedited: false, stallBudgetMs: 500 },
		tempDisks: ["sdb"],
		otherScripts: { azureFolder: "/etc/azure", qemuHookFolders: [], hookDeadlineMs: 1_000 },
		extensions: { installFrom: ["/usr/lib/stillpoint/extensions"], snapshot: "A" },
		controller: { url: "https://controller:7443", proxy: "http://me:secret@proxy:3128" },
		protection: { level: "application", maxAgeMs: null },
		readersGroup: "adm",
		log: { level: "debug", maxBytes: 65_536 },
	},
];

const settings = (publicSettings: unknown, more: object = {}) => ({
	runtimeSettings: [{ handlerSettings: { publicSettings, ...more } }],
});
const secret = { protectedSettings: "TUlJ", protectedSettingsCertThumbprint: "0".repeat(40) };
const formattedMessage = { lang: "en-US", message: "fine" };
const command = "bin/handler";
export const handlerFiles = {
	settings: [
		settings({ a: { b: [1, 2] } }),
		settings('{"a":1}', secret),
		settings(null, secret),
		{ runtimeSettings: [] },
	],
	environments: [
		[
			{
				name: "Web.Handler",
				version: 1,
				handlerEnvironment: {
					logFolder: "/l",
					configFolder: "/c",
					statusFolder: "/s",
					heartbeatFile: "/h",
					eventsFolder: "/e",
				},
			},
		],
	],
	statuses: [
		[
			{
				version: 1,
				timestampUTC: "2026-11-20T15:07:56Z",
				status: {
					name: "x",
					operation: "Enable",
					status: "Success",
					code: "0",
					formattedMessage,
					substatus: [{ name: "s", status: "error", code: 5, formattedMessage }],
				},
			},
		],
	],
	heartbeats: [[{ version: 1, heartbeat: { status: "Ready", code: 0, Message: "x", formattedMessage } }]],
	events: [
		{
			Version: "1",
			Timestamp: "t",
			TaskName: "t",
			EventLevel: "Error",
			Message: "m",
			EventPid: 7,
			EventTid: "8",
			OperationId: "o",
		},
	],
	manifests: [
		[
			{
				name: "Web.Handler",
				version: "1.2.3",
				handlerManifest: {
					installCommand: command,
					uninstallCommand: command,
					updateCommand: command,
					enableCommand: "node bin/x.mjs  enable",
					disableCommand: command,
					rebootAfterInstall: "False",
					reportHeartbeat: true,
					snapshotCommand: "./bin/snapshot",
				},
				resourceLimits: { cpuQuotaPercentage: 5, services: [{ name: "s", memoryQuotaInMB: 5 }] },
			},
		],
	],
	jobs: [{ pid: 999_999, startTicks: "5", bootId: "b", sequenceNumber: 3, extensionName: "x" }],
	taskStores: [
		{
			version: 1,
			machine: { machineId: "x" },
			tasks: [
				{
					taskId: "t",
					jobId: "j",
					sequenceNumbers: [1, 2],
					startTicks: "5",
					acceptedAt: "2026-11-20T15:07:56Z",
					state: "running",
					process: { pid: 999_999, startTime: "5", bootId: "b" },
					outcome: { status: "success" },
				},
			],
		},
	],
};

export const goalStates = [
	{
		version: 1,
		name: "Web.Handler",
		publicSettings: { a: 1 },
		protectedSettings: { key: "secret" },
		dependsOn: ["A/b"],
	},
	{
		version: 1,
		name: "Web.Handler",
		instances: { web: { state: "disabled", sequenceNumber: 4, publicSettings: {} }, db: {} },
	},
];

export const azurePublic = {
	settings: {
		commandToExecute: "snapshot",
		taskId: "0a0b0c0d-0000-0000-0000-000000000001",
		commandStartTimeUTCTicks: "638000000000000000",
		isOnlyOSDiskBackupEnabled: "False",
		locale: "en-us",
		logsBlobUri: "",
		statusBlobUri: "https://account.blob.core.windows.net/status?sig=abc",
	},
	objects: [
		{
			backupMetadata: [{ Key: "resourceid", Value: "/subscriptions/x" }],
			snapshotTaskToken: "token",
			includedDisks: { dataDiskLunList: [0, 3], isOSDiskIncluded: true, instantAccessDurationMinutes: 5 },
			dynamicConfigsFromCRP: { flag: true },
		},
		{ backupMetadata: null, includedDisks: { isAnyWADiskIncluded: "true", dataDiskLunList: [1] } },
	],
	custom: [
		{ takeSnapshotFrom: "onlyGuest", isManagedVm: "true", canTakeCrashConsistentSnapshot: true, backupRetryCount: "2" },
		{},
	],
};
export const azureProtected = {
	settings: { logsBlobUri: "", statusBlobUri: "", snapshotTaskToken: "token" },
	objects: [{ blobSASUri: ["https://account.blob.core.windows.net/vhds/os.vhd?sig=x", "https://a/b"] }, {}],
};

/** Good documents of scripts and of what is kept of them. */
export const dropIns = [
	{
		version: 1,
		application: "PostgreSQL",
		order: 10,
		onFailure: "continue",
		runAs: "postgres",
		session: { command: ["/usr/lib/stillpoint/hold", "--port", "5432"], deadlineMs: 5_000 },
		post: { command: ["/bin/true"] },
		dryRun: true,
	},
	{ version: 1, application: "cache", pre: { command: ["/bin/sync"], retries: 3 }, enabled: false },
];

export const azureScriptConfigs = [
	{
		pluginName: "ScriptRunner",
		appName: "",
		preScriptLocation: "/opt/pre.sh",
		postScriptLocation: "/opt/post.sh",
		preScriptParams: ["-v", 5],
		postScriptParams: [],
		preScriptNoOfRetries: 2,
		postScriptNoOfRetries: 0.5,
		timeoutInSeconds: 30,
		continueBackupOnFailure: "TRUE",
		fsFreezeEnabled: 0,
		ScriptsExecutionPollTimeSeconds: 1,
	},
];

export const undoFiles = [
	{
		version: 2,
		job: {
			jobId: "job-1",
			level: "application",
			disks: ["vda"],
			fileSystems: [{ mountPoint: "/", superblock: "254:1" }],
		},
		owner: { pid: 999_999, startTime: "5" },
		steps: [
			{
				application: "db",
				mark: "m",
				phase: "pre",
				process: { pid: 999_998, startTime: "6" },
				deadlineMs: 100,
				post: { command: ["/bin/true"], deadlineMs: 100, retries: 1 },
			},
		],
	},
];

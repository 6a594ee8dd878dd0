/** Good documents of each kind that crosses an edge: what mutations begin with. */
export const orders = [
	{ jobId: "job-1", level: "file-system", acceptLevel: "crash", disks: "all" },
	{
		jobId: "j.2_x-3",
		level: "application",
		acceptLevel: "application",
		disks: { include: ["vda", "serial:AB12"] },
		startWithinMs: 0,
		holdLimitMs: 900_000,
		prepareLimitMs: 1_000,
		stall: { budgetMs: 200, waitMs: 5 },
		snapshot: "unknown",
	},
	{ jobId: "3", level: "crash", acceptLevel: "crash", disks: { exclude: ["sdb"] } },
];

export const errorShapes = [
	{ code: "stuck", message: "may still be frozen", remedy: "stillpoint thaw", retryable: true, details: { a: [1] } },
	{ code: "cancelled", message: "" },
];

const report = {
	schemaVersion: 1,
	jobId: "job-1",
	requested: "application",
	accepted: "crash",
	achieved: "file-system",
	held: "file-system",
	because: ["script-failed", "mapping-unproved"],
	startedAt: "2026-11-20T15:07:56.123Z",
	frozenAt: "2026-11-20T15:07:57.000Z",
	thawedAt: "2026-11-20T15:07:57.400Z",
	durationMs: 1_234.5,
	extension: { name: "Stillpoint.VMSnapshotLinux", version: "1.0.0" },
	window: { predictedMs: 100, freezeMs: 3.1, heldMs: 40, thawMs: 2, skewMs: 1 },
	fileSystems: [
		{
			mountPoint: "/srv/daten – alt",
			device: "/dev/vda1",
			superblock: "254:1",
			fsType: "ext4",
			uuid: "00112233-4455-6677-8899-aabbccddeeff",
			disks: ["vda"],
			level: 0,
			result: "thawed",
			syncMs: 12,
			freezeMs: 3,
			heldMs: 40,
			thawMs: 1,
			frozenUntilSnapshotEnded: true,
			marker: "abcdef",
		},
		{
			mountPoint: "/home",
			device: "/dev/vdb",
			superblock: "254:16",
			fsType: "xfs",
			disks: ["vdb"],
			level: 1,
			result: "failed",
			frozenUntilSnapshotEnded: false,
			error: "EIO",
		},
	],
	scripts: [
		{
			name: "db",
			source: "drop-in",
			phase: "session",
			exitCode: 0,
			held: true,
			durationMs: 20,
			outputTail: "ready\nheld\n",
		},
		{
			name: "cache",
			source: "qemu-hook",
			phase: "pre",
			signal: "SIGKILL",
			timedOut: true,
			attempts: 2,
			durationMs: 30_000,
			outputTail: "\u001b[31mno\u001b[0m",
			error: { code: "script-timeout", message: "no end", retryable: true, details: { exit: 1 } },
		},
	],
	writers: [],
	disks: [
		{
			name: "vda",
			serial: "AB12",
			sizeBytes: 1_000_000,
			included: true,
			achieved: "file-system",
			held: "file-system",
			because: [],
			fileSystemUuids: ["00112233-4455-6677-8899-aabbccddeeff"],
			snapshot: { id: "s-1", provider: "image-files" },
		},
		{
			name: "vdb",
			included: false,
			achieved: null,
			held: "none",
			because: ["snapshot-not-taken"],
			fileSystemUuids: [],
		},
	],
	notCovered: [
		{ what: "/mnt/nfs", why: "network" },
		{ what: "/run", why: "no-storage", detail: "tmpfs" },
	],
};
export const reports = [
	report,
	{ ...report, achieved: null, error: { code: "stuck", message: "may still be frozen: /home", retryable: false } },
	{ ...report, window: undefined, frozenAt: undefined, thawedAt: undefined, fileSystems: [], scripts: [], disks: [] },
];

const jobId = "job-1";
const identity = {
	fileSystems: [{ fsType: "ext4", uuid: "00112233-4455-6677-8899-aabbccddeeff", offsetBytes: 1_048_576 }],
};
export const holdCommands = [
	{ type: "freeze", jobId, predictedMs: 250.5 },
	{ type: "freeze", jobId },
	{ type: "taken", jobId, disk: { name: "vda", ok: true, snapshotId: "s", provider: "p" } },
	{ type: "done", jobId, disks: [{ name: "vda", ok: false, error: "no space" }] },
	{ type: "described", jobId, disks: [{ name: "vda", identity }] },
	{ type: "release", jobId, error: errorShapes[0] },
	{ type: "cancel", jobId, code: "asker-lost" },
];

export const holdEvents = [
	{ type: "phase", jobId, phase: "freezing" },
	{
		type: "prepared",
		jobId,
		disks: [{ name: "vda", serial: "x", sizeBytes: 5, fileSystemUuids: ["u"] }],
		holdLimitMs: 10_000,
		perDisk: true,
	},
	{ type: "frozen", jobId, leftMs: 9_000, worth: "file-system" },
	{ type: "thawed", jobId },
	{ type: "stuck", jobId, fileSystems: ["/home"], error: errorShapes[0] },
];

const target = { superblock: "7:0", mountPoint: "/a", openPath: "/a", fsType: "ext4", level: 0, dev: "1792", ino: "2" };
export const freezeTargets = [
	target,
	{ ...target, superblock: "0:38", mountPoint: "/b b", openPath: "/proc/12/fd/3", level: 3 },
];

export const extensionEvents = [
	...holdEvents,
	{ type: "targets", jobId, targets: freezeTargets },
	{ type: "freezing", jobId, holdLimitMs: 10_000, freezerPid: 77 },
	{ type: "report", jobId, report },
	{ type: "alive", jobId },
];

export const freezerCommands = [
	{ type: "targets", jobId, ledgerPath: "/run/stillpoint/freezes/job-1.json", bootId: "b", targets: freezeTargets },
	{ type: "freeze", holdLimitMs: 10_000, freezeLimitMs: 5_000, expedited: true },
	{ type: "thaw" },
	{ type: "thaw", superblocks: ["7:0", "0:38"] },
];

export const freezerEvents = [
	{ type: "ready", pinnedBytes: 1_000 },
	{ type: "fileSystem", superblock: "7:0", result: "frozen", startedAtMs: 1.5, endedAtMs: 2 },
	{ type: "frozen", atMs: 1, leftMs: 2, expedited: false },
	{ type: "failed", reason: "freeze-late", superblock: "7:0", message: "late" },
	{
		type: "thawed",
		cause: "eof",
		atMs: 1,
		fileSystems: [{ superblock: "7:0", result: "thaw-failed", errno: "EIO", startedAtMs: 1, endedAtMs: 2 }],
	},
];

export const ledgers = [
	{
		schemaVersion: 1,
		jobId,
		bootId: "5b1264d0-0000-4000-8000-000000000000",
		freezer: { pid: 999_999, startTime: "123" },
		deadlineAtMs: 5,
		fileSystems: freezeTargets.map((one) => ({ ...one, state: "frozen", fd: 20 })),
	},
];

const machine = { hostname: "web-1", machineId: "0".repeat(32), systemUuid: "0-0", bootId: "b", platform: "linux-x64" };
const time = "2026-11-20T15:07:56.123Z";
export const agentMessages = [
	{ type: "hello", protocol: 1, version: "0.1.0", machine, runningJobId: jobId, ticket: "1.abcdefghijklmnop.x", time },
	{ type: "ticket-kept", ticket: "1.abcdefghijklmnopqrst" },
	{ type: "renew", csr: "-----BEGIN CERTIFICATE REQUEST-----\nMA==\n-----END CERTIFICATE REQUEST-----" },
	{ type: "accepted", jobId, repeated: true, report },
	{ type: "refused", jobId, error: errorShapes[0] },
	...holdEvents,
	{ type: "report", sequence: 7, report },
	{ type: "response", requestId: "r", result: { any: ["thing"] } },
	{ type: "response", requestId: "r", error: errorShapes[1] },
];

export const controllerMessages = [
	{ type: "welcome", protocol: 1, agentId: "a-1", ticket: "1.abcdefghijklmnop", time },
	{ type: "renewed", certificate: "-----BEGIN CERTIFICATE-----" },
	...orders.map((order) => ({ type: "order", order })),
	...holdCommands,
	{ type: "ack", sequence: 7 },
	{ type: "request", requestId: "r", method: "inventory" },
	{ type: "error", error: errorShapes[0] },
];

const jobRecord = {
	jobId,
	agentId: "a-1",
	state: "done",
	orderedAt: time,
	endedAt: time,
	recoveryPointId: "rp-1",
	level: "crash",
	report,
};
export const controllerEvents = [
	{ type: "job", job: { ...jobRecord, report: undefined } },
	{ type: "agent", agentId: "a-1", connected: false },
	{ type: "enrolment-request", request: { id: "e", at: time, address: "::1", machine, reason: "copied" } },
	{ type: "reset" },
	{ type: "state", jobs: [jobRecord], agents: [] },
	{ type: "end" },
];

export const recoveryPoints = [
	{
		schemaVersion: 1,
		id: "rp-1",
		agentId: "a-1",
		jobId,
		createdAt: time,
		provider: "image-files",
		level: "file-system",
		disks: [
			{ name: "vda", image: "vda.img", sizeBytes: 5, method: "copy", copyMs: 1, identity },
			{ name: "vdb", image: "vdb.img", sizeBytes: 5, method: "reflink", copyMs: 0, identity: { fileSystems: [] } },
		],
		report,
		machine: { hostname: "web-1" },
	},
];

export const apiBodies = [
	{ name: "ops", role: "operator", validMs: 10_000, csr: "x" },
	{ reason: "lost" },
	{ token: "stillpoint1.0123456789abcdef.x.y", csr: "x", machine },
	{ machine, formerAgentId: "a", reason: "copied" },
	{ validMs: 86_400_000 },
	{ disks: [{ name: "vda", image: "/images/a.img" }] },
	{
		jobId,
		level: "application",
		acceptLevel: "crash",
		disks: { include: ["vda"] },
		holdLimitMs: 10_000,
		stall: { budgetMs: 5 },
	},
	{},
];

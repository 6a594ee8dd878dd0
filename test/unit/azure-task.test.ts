import { describe, expect, test } from "vitest";
import { StillpointError } from "../../contracts/errors.ts";
import { azureCodeOf } from "../../extensions/vm-snapshot-linux/azure/azure-codes.ts";
import { type AzureTask, parseAzureCommand } from "../../extensions/vm-snapshot-linux/azure/azure-task.ts";
import { chooseDisks } from "../../extensions/vm-snapshot-linux/azure/choose-disks.ts";
import { sourceOf } from "../../extensions/vm-snapshot-linux/azure/choose-provider.ts";

const found = [
	{ lun: -1, name: "sda" },
	{ lun: 0, name: "sdc" },
	{ lun: 5, name: "sdd" },
];

describe("the settings of a task", () => {
	test("bad ones are told by field and code, and none of their values is", () => {
		const bad: [string, number, Parameters<typeof settings>[0]][] = [
			["taskId", 11, { open: { taskId: "" } }],
			["taskId", 11, { open: { taskId: 7 } }],
			["commandToExecute", 11, { open: { commandToExecute: "SECRET" } }],
			["commandToExecute", 11, { open: { commandToExecute: undefined } }],
			["commandStartTimeUTCTicks", 11, { open: { commandStartTimeUTCTicks: "SECRET" } }],
			["customSettings", 11, { open: { customSettings: "{SECRET" } }],
			["takeSnapshotFrom", 11, { open: { customSettings: '{"takeSnapshotFrom":"SECRET"}' } }],
			["objectStr is missing", 11, { open: { objectStr: "" } }],
			["objectStr is no base64", 11, { open: { objectStr: "!SECRET!" } }],
			["objectStr is empty", 11, { open: { objectStr: encode("  ''  ") } }],
			["objectStr is no JSON", 11, { open: { objectStr: encode("SECRET") } }],
			["objectStr", 11, { open: { objectStr: encode("[1]") } }],
			["backupMetadata.0.Key", 11, { object: { backupMetadata: [{ Key: "SECRET: x", Value: "" }] } }],
			["backupMetadata.0.Value", 11, { object: { backupMetadata: [{ Key: "a", Value: "SECRET\r\nb" }] } }],
			["includedDisks", 17, { object: { includedDisks: "SECRET" } }],
			["names no disk", 17, { object: { includedDisks: {} } }],
			["names no disk", 17, { object: { includedDisks: { dataDiskLunList: [], isOSDiskIncluded: false } } }],
			["LUN twice", 17, { object: { includedDisks: { dataDiskLunList: [1, 1] } } }],
			["dataDiskLunList.0", 17, { object: { includedDisks: { dataDiskLunList: [-1] } } }],
			["dataDiskLunList.0", 17, { object: { includedDisks: { dataDiskLunList: ["0"] } } }],
			["blobSASUri.0", 11, { hidden: { blobSASUri: ["http://host/SECRET"] } }],
			["blobSASUri.0", 11, { hidden: { blobSASUri: ["SECRET"] } }],
			["blobSASUri", 11, { hidden: { blobSASUri: "SECRET" } }],
			["protected objectStr", 11, { secret: { objectStr: "!SECRET!" } }],
			["statusBlobUri", 11, { open: { statusBlobUri: "ftp://host/SECRET" } }],
		];
		for (const [where, code, changes] of bad) {
			const error = errorOf(() => parseAzureCommand(settings(changes)));
			expect(error.message, JSON.stringify(changes)).toContain(where);
			expect(error.message).not.toContain("SECRET");
			expect([error.code, azureCodeOf(error)]).toEqual(["settings-invalid", code]);
		}
	});

	test("long runs of quotes or blanks that are no padding are refused at once", () => {
		const run = 400_000;
		for (const objectStr of [
			encode(`x${"'".repeat(run)}x`),
			`eyJh${" ".repeat(run)}!`,
			`eyJh${"\n ".repeat(run)}=!`,
			`${"=".repeat(run)}A`,
		])
			expect(errorOf(() => parseAzureCommand(settings({ open: { objectStr } }))).code).toBe("settings-invalid");
	});

	test("good ones are read, with what the service pads and what it adds later", () => {
		const padded = encode(`  '${JSON.stringify({ blobSASUri: ["https://h/a?sig=x"], later: 1 })}' `);
		const task = parse({
			open: { commandStartTimeUTCTicks: "621355968010000000", later: true },
			object: {
				includedDisks: { dataDiskLunList: [5, 0], isOSDiskIncluded: true },
				dynamicConfigsFromCRP: { a: true },
			},
			secret: { objectStr: padded },
		});
		expect(task).toMatchObject({ startedAtMs: 1_000, luns: [5, 0, -1], source: "firstHostThenGuest" });
		expect(task).toMatchObject({ blobUris: ["https://h/a?sig=x"], flags: { a: true }, acceptsCrash: false });
	});

	test("crash is accepted only when the service says all three", () => {
		const custom = { isManagedVm: "true", canTakeCrashConsistentSnapshot: true, backupRetryCount: 1 };
		expect(parse({ open: { customSettings: JSON.stringify(custom) } }).acceptsCrash).toBe(true);
		for (const change of [{ isManagedVm: false }, { canTakeCrashConsistentSnapshot: "no" }, { backupRetryCount: 0 }]) {
			const text = JSON.stringify({ ...custom, ...change });
			if (change.canTakeCrashConsistentSnapshot === "no")
				expect(() => parse({ open: { customSettings: text } })).toThrow();
			else expect(parse({ open: { customSettings: text } }).acceptsCrash).toBe(false);
		}
	});

	test("only the OS disk is meant when the service says so and names no disks, and never all", () => {
		const only = (value: unknown, object: Record<string, unknown> = { includedDisks: undefined }) =>
			parse({ open: { isOnlyOSDiskBackupEnabled: value }, object }).luns;
		expect([only(true), only("True"), only(false), only(undefined)]).toEqual([[-1], [-1], undefined, undefined]);
		expect(only(true, {})).toEqual([0]);
		expect(() => only("SECRET")).toThrow(/isOnlyOSDiskBackupEnabled/);
	});

	test("disks that only the host can take are asked of it, whatever the admin prefers", () => {
		for (const name of ["isAnyWADiskIncluded", "isAnyDirectDriveDiskIncluded", "isVmgsBlobIncluded"]) {
			const task = parse({ object: { includedDisks: { dataDiskLunList: [0], [name]: true } } });
			expect(sourceOf(task, "onlyGuest")).toBe("onlyHost");
		}
		expect(sourceOf(parse({}), "onlyGuest")).toBe("onlyGuest");
	});
});

describe("the disks of a task", () => {
	test("are named one by one, never as all", () => {
		expect(chooseDisks({ luns: [5, -1] }, found).map(({ name }) => name)).toEqual(["sdd", "sda"]);
		expect(chooseDisks({ luns: undefined }, found).map(({ name }) => name)).toEqual(["sda", "sdc", "sdd"]);
	});

	test("one that this machine lacks fails the task by its LUN; so does a machine without any", () => {
		for (const [luns, what] of [
			[[0, 7], "LUN 7"],
			[[7], "LUN 7"],
		] as const) {
			const error = errorOf(() => chooseDisks({ luns }, found));
			expect([error.code, azureCodeOf(error)]).toEqual(["disk-unknown", 17]);
			expect(error.message).toContain(what);
		}
		expect(errorOf(() => chooseDisks({ luns: undefined }, [])).code).toBe("disk-unknown");
		expect(errorOf(() => chooseDisks({ luns: [-1] }, [])).message).toContain("operating system");
		const twice = [...found, { lun: 9, name: "sdc" }];
		expect(errorOf(() => chooseDisks({ luns: [0, 9] }, twice)).code).toBe("disk-unknown");
	});
});

function settings(changes: {
	open?: Record<string, unknown>;
	object?: Record<string, unknown>;
	secret?: Record<string, unknown>;
	hidden?: Record<string, unknown>;
}) {
	const object = { includedDisks: { dataDiskLunList: [0] }, ...changes.object };
	return {
		publicSettings: {
			commandToExecute: "snapshot",
			taskId: "a-task",
			objectStr: encode(JSON.stringify(object)),
			...changes.open,
		},
		protectedSettings: { objectStr: encode(JSON.stringify({ blobSASUri: [], ...changes.hidden })), ...changes.secret },
	};
}

function parse(changes: Parameters<typeof settings>[0]): AzureTask {
	const parsed = parseAzureCommand(settings(changes));
	if (parsed.command !== "snapshot") throw new Error("no snapshot");
	return parsed.task;
}

function errorOf(work: () => unknown): StillpointError {
	try {
		work();
	} catch (error) {
		if (error instanceof StillpointError) return error;
	}
	throw new Error("it was accepted");
}

function encode(text: string): string {
	return Buffer.from(text).toString("base64");
}

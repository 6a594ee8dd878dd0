import { chmodSync, mkdirSync, mkdtempSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { readManifest as readHandlerManifest } from "../../agent/extension-host/read-manifest.ts";
import { findStatusReport, statusPath } from "../../agent/extension-host/status-file.ts";
import { readKeptReports } from "../../agent/kept-reports.ts";
import { findEnrolment } from "../../agent/link/enrolment-file.ts";
import { loadConfig } from "../../agent/load-config.ts";
import { readManifest as readRecoveryPoint } from "../../controller/recovery-point-manifest.ts";
import { openRecoveryPointFolders } from "../../controller/recovery-points.ts";
import { readHandlerEnvironment } from "../../extensions/kit/handler-environment.ts";
import { readDropIns } from "../../extensions/vm-snapshot-linux/script-runner/sources/read-drop-ins.ts";
import { type BadFile, badFiles } from "../fixtures/bad-files.ts";

/** Who reads a small JSON file, and what it does about one that is none. */
type Reader = {
	readonly what: string;
	/** Below the test's folder. */
	readonly file: string;
	read(folder: string, path: string): Promise<unknown>;
	/** Undefined: a bad file is as none, and nothing is thrown. */
	readonly code?: string;
	/** What it is when the file is not there: a code, or what is returned. */
	readonly missing: { code: string } | { value: unknown };
};

const readers: readonly Reader[] = [
	{
		what: "the agent's configuration",
		file: "agent.json",
		read: (_folder, config) => loadConfig({ flags: { config }, environment: {} }),
		code: "config-invalid",
		missing: { code: "config-missing" },
	},
	{
		what: "HandlerManifest.json",
		file: "HandlerManifest.json",
		read: (folder) => readHandlerManifest(folder),
		code: "extension-invalid",
		missing: { code: "extension-invalid" },
	},
	{
		what: "HandlerEnvironment.json",
		file: "HandlerEnvironment.json",
		read: (folder) => readHandlerEnvironment(folder, 0),
		code: "extension-invalid",
		missing: { code: "extension-invalid" },
	},
	{
		what: "enrolment.json",
		file: "enrolment/enrolment.json",
		read: async (folder) => findEnrolment(folder),
		code: "state-unusable",
		missing: { value: undefined },
	},
	{
		what: "manifest.json of a recovery point",
		file: "rp-1/manifest.json",
		read: (_folder, path) => readRecoveryPoint(dirname(path)),
		code: "recovery-point-invalid",
		missing: { code: "recovery-point-invalid" },
	},
	{
		what: "verification.json of a recovery point",
		file: "rp-1/verification.json",
		read: async (folder) => (await openRecoveryPointFolders(folder)).readVerification("rp-1"),
		code: "recovery-point-invalid",
		missing: { value: undefined },
	},
	{
		what: "a status file",
		file: "status/job-1.status",
		read: async (folder) => findStatusReport(folder, "job-1"),
		missing: { value: undefined },
	},
];

const oversized: BadFile = {
	name: "one of 60 MB",
	put(path) {
		writeFileSync(path, "{}");
		truncateSync(path, 60_000_000);
	},
	says: /is larger than \d+ bytes/,
};
const unknownKey: BadFile = {
	name: "one with an unknown key",
	put: (path) => writeFileSync(path, '{"version":1,"noSuchKey":1}', { mode: 0o600 }),
	says: /noSuchKey|:/,
};

let folder: string;
beforeEach(() => {
	folder = mkdtempSync("/var/lib/stillpoint-test-readers-");
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

describe.skipIf(process.getuid?.() !== 0)("who reads", () => {
	describe.each(readers.map((one) => [one.what, one] as const))("%s", (_what, reader) => {
		const outcome = (path: string) => reader.read(folder, path).catch((error: unknown) => error);
		const place = () => {
			const path = join(folder, reader.file);
			mkdirSync(dirname(path), { recursive: true });
			return path;
		};

		test.each([...badFiles, oversized, unknownKey].map((one) => [one.name, one] as const))(
			"finds %s, and says so by file and field",
			async (_name, bad) => {
				const path = place();
				bad.put(path);
				chmodSync(path, 0o600);
				const found = await outcome(path);
				if (reader.code === undefined) expect(found).toBeUndefined();
				else if (reader.code === "config-invalid" && bad.name === "a FIFO") {
					// Trust comes first, and a FIFO has none.
					expect(found).toMatchObject({ code: "untrusted-path", message: expect.stringContaining(path) });
				} else expect(found).toMatchObject({ code: reader.code, message: expect.stringContaining(path) });
				if (found instanceof Error && bad !== unknownKey && reader.code !== "config-invalid")
					expect(found.message).toMatch(bad.says);
			},
		);

		test("does with none what it should", async () => {
			const found = await outcome(place());
			if ("value" in reader.missing) expect(found).toBe(reader.missing.value);
			else expect(found).toMatchObject({ code: reader.missing.code, message: expect.stringContaining(reader.file) });
		});
	});

	test.each([...badFiles, oversized].map((one) => [one.name, one] as const))(
		"kept reports finds %s, tells the log, and leaves it",
		(_name, bad) => {
			const path = join(folder, "job-1.json");
			bad.put(path);
			const told: string[] = [];
			expect(readKeptReports(folder, (file, error) => told.push(`${file} ${String(error)}`))).toEqual([]);
			expect(told).toEqual([expect.stringMatching(bad.says)]);
			expect(told[0]).toContain(path);
		},
	);

	test("drop-ins: whatever lies there is bad by its path, beside a good one", async () => {
		const scripts = join(folder, "scripts");
		mkdirSync(scripts);
		const good = { version: 1, application: "shop", pre: { command: ["/bin/true"] } };
		writeFileSync(join(scripts, "good.json"), JSON.stringify(good));
		const all = [...badFiles, oversized, unknownKey];
		all.forEach((bad, index) => {
			bad.put(join(scripts, `bad-${index}.json`));
		});
		const found = await readDropIns(scripts, () => Promise.resolve());
		expect(found.scripts.map(({ name }) => name)).toEqual(["good"]);
		expect(found.bad).toHaveLength(all.length);
		for (const { name, error } of found.bad) {
			expect(error.code).toBe("script-config-invalid");
			expect(error.message).toContain(join(scripts, `${name}.json`));
			expect(error.message).toMatch((all[Number(name.slice("bad-".length))] as BadFile).says);
		}
	});

	test("the configuration: that others may write is untrusted, before a byte of it is read", async () => {
		const config = join(folder, "agent.json");
		oversized.put(config);
		chmodSync(config, 0o666);
		await expect(loadConfig({ flags: { config }, environment: {} })).rejects.toMatchObject({ code: "untrusted-path" });
	});

	test("a status file that is good is found (negative control of the table)", async () => {
		const { writeStatusReport } = await import("../../agent/extension-host/status-file.ts");
		const { makeLostReport } = await import("../../agent/lost-report.ts");
		const { orderSchema } = await import("../../contracts/order.ts");
		const { StillpointError } = await import("../../contracts/errors.ts");
		mkdirSync(dirname(statusPath(folder, "job-1")));
		const order = orderSchema.parse({ jobId: "job-1", level: "crash", acceptLevel: "crash", disks: "all" });
		const report = makeLostReport({
			order,
			extension: { name: "X", version: "1.0" },
			startedAt: new Date(0).toISOString(),
			durationMs: 1,
			error: new StillpointError("interrupted", "x"),
			snapshotTold: false,
		});
		writeStatusReport(folder, report);
		expect(findStatusReport(folder, "job-1")).toMatchObject({ jobId: "job-1" });
	});
});

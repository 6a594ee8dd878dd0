import assert from "node:assert/strict";
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import * as fc from "fast-check";
import { findStatusReport } from "../../../agent/extension-host/status-file.ts";
import { openJournal } from "../../../agent/journal.ts";
import { readKeptReports } from "../../../agent/kept-reports.ts";
import { fitReport } from "../../../agent/link/fit-report.ts";
import { parseIdentity } from "../../../agent/machine-change.ts";
import { readKnownSecrets } from "../../../command-line/diagnose/known-secrets.ts";
import { readJournal } from "../../../command-line/diagnose/read-journal.ts";
import { makeRedact } from "../../../command-line/diagnose/redact.ts";
import { renderReport } from "../../../command-line/render-report.ts";
import { checkShape } from "../../../contracts/check-shape.ts";
import { StillpointError } from "../../../contracts/errors.ts";
import { type Report, reportSchema } from "../../../contracts/report.ts";
import { verificationSchema } from "../../../contracts/verification.ts";
import { parseManifest } from "../../../controller/recovery-point-manifest.ts";
import { judgeSameInstant } from "../../../controller/verify/same-instant-check.ts";
import { findLedger, findLedgerSync } from "../../../platform/linux/find-ledger.ts";
import { type FuzzTarget, fuzzTarget, neverThrows } from "../fuzz-target.ts";
import { hostileText } from "../inputs/hostile-values.ts";
import { mutatedBytes } from "../inputs/mutated-bytes.ts";
import { mutatedJson, mutatedValue } from "../inputs/mutated-json.ts";
import { mutatedText } from "../inputs/mutated-text.ts";
import { ledgers, orders, recoveryPoints, reports } from "../samples/documents.ts";
import { logTexts } from "../samples/texts.ts";

const page = { hasColor: true, columns: 80 };
const kept = {
	version: 1,
	order: orders[1],
	asker: "link",
	controller: "c",
	createdAt: "2026-11-20T15:07:56Z",
	report: reports[0],
};

/** Readers of reports, and of what else of a job is kept on disks that somebody may have written to. */
export function reportTargets(folder: string): FuzzTarget[] {
	const json = (samples: readonly unknown[]) => mutatedJson(fc.constantFrom(...samples));
	const at = (name: string) => join(folder, name);
	for (const one of ["reports", "extension/status", "state/sub", "journal"]) mkdirSync(at(one), { recursive: true });
	const scripts = at("scripts.d");
	mkdirSync(scripts);
	return [
		fuzzTarget({
			name: "report",
			parser: "contracts/report.ts reportSchema; command-line/render-report.ts renderReport; agent/link/fit-report.ts",
			inputs: mutatedValue(fc.constantFrom(...reports)),
			run: (value) => {
				const parsed = checkShape(reportSchema, value);
				const loose = reportSchema.loose().safeParse(value);
				assert.equal(loose.success, parsed.success);
				if (!parsed.success) return;
				assert.deepEqual(
					reportSchema.parse(JSON.parse(JSON.stringify(parsed.data))),
					JSON.parse(JSON.stringify(parsed.data)),
				);
				// A terminal is never told more than text and the colours that are ours.
				const shown = renderReport(parsed.data, page);
				// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
				assert.doesNotMatch(shown.replace(/\u001b\[[0-9;]*m/g, ""), /[\u0000-\u0008\u000b-\u001f\u007f\u009b]/);
				fitReport(parsed.data, 2_000);
			},
			mayThrow: neverThrows,
		}),
		fuzzTarget({
			name: "status-report",
			parser: "agent/extension-host/status-file.ts findStatusReport",
			inputs: fc.tuple(json(reports), json(statusFiles)),
			run: ([report, file]) => {
				writeFileSync(at("extension/status/job-1.status"), file.replace("REPORT", JSON.stringify(report).slice(1, -1)));
				findStatusReport(at("extension"), "job-1");
			},
			mayThrow: neverThrows,
		}),
		fuzzTarget({
			name: "kept-reports",
			parser: "agent/kept-reports.ts readKeptReports",
			inputs: json([kept]),
			run: (text) => {
				writeFileSync(at("reports/job-1.json"), text);
				const bad: unknown[] = [];
				for (const { jobId } of readKeptReports(at("reports"), (_path, error) => void bad.push(error)))
					assert.match(jobId, /^[\w.-]+$/);
				for (const error of bad) assert.ok(error instanceof StillpointError && error.code === "state-unusable");
			},
			mayThrow: neverThrows,
		}),
		fuzzTarget({
			name: "ledger",
			parser: "platform/linux/find-ledger.ts findLedger, findLedgerSync",
			inputs: json(ledgers),
			run: async (text) => {
				writeFileSync(at("ledger.json"), text, { mode: 0o600 });
				const path = at("ledger.json");
				const [one, other] = [await findLedger(path).catch(codeOf), attempt(() => findLedgerSync(path))];
				assert.deepEqual(one, other);
				if (typeof one === "string") assert.equal(one, "ledger-invalid");
			},
			mayThrow: neverThrows,
		}),
		fuzzTarget({
			name: "recovery-point",
			parser: "controller/recovery-point-manifest.ts parseManifest",
			inputs: json(recoveryPoints),
			run: (text) => {
				for (const { image } of parseManifest(text, "/m.json").disks) {
					assert.equal(join("/p", image).lastIndexOf("/"), 2);
					assert.ok(!image.includes("\0"));
				}
			},
		}),
		fuzzTarget({
			name: "verification",
			parser: "contracts/verification.ts verificationSchema; controller/verify/same-instant-check.ts judgeSameInstant",
			inputs: fc.tuple(
				mutatedValue(fc.constantFrom(...reports)),
				json([{ jobId: "job-1", marker: "abcdef", writtenAt: "x" }]),
				fc.oneof(fc.nat(), fc.double()),
			),
			run: ([value, marker, writtenAtSeconds]) => {
				checkShape(verificationSchema, value);
				const report = checkShape(reportSchema, value).data;
				for (const reported of report?.fileSystems ?? [])
					judgeSameInstant({ report: report as Report, reported, markers: [marker], writtenAtSeconds });
			},
			mayThrow: neverThrows,
		}),
		fuzzTarget({
			name: "journal-rows",
			parser: "agent/journal.ts openJournal, readJobs; command-line/diagnose/read-journal.ts readJournal",
			inputs: fc.tuple(json(reports), json(orders), hostileText),
			run: ([report, order, word]) => {
				using given = freshJournal(at("journal"));
				const columns = `jobId, "order", asker, phase, createdAt, report`;
				given.database
					.prepare(`INSERT OR REPLACE INTO jobs (${columns}) VALUES (?, ?, ?, ?, ?, ?)`)
					.run("job-1", order, word, word, word, report);
				given.database.close();
				using journal = openJournal(join(at("journal"), "journal.db"));
				attempt(() => journal.readJobs(10));
				attempt(() => journal.findReport("job-1"));
				attempt(() => readJournal(at("journal")));
				parseIdentity(order);
			},
			mayThrow: neverThrows,
			limits: { cpuMs: 5_000 },
		}),
		fuzzTarget({
			name: "journal-file",
			parser: "agent/journal.ts openJournal",
			inputs: mutatedBytes([journalBytes(at("journal"))]),
			run: (bytes) => {
				const path = at("damaged.db");
				for (const suffix of ["", "-journal", "-wal", "-shm"]) rmSync(`${path}${suffix}`, { force: true });
				writeFileSync(path, bytes, { mode: 0o600 });
				using journal = openJournal(path);
				journal.readJobs(10);
				journal.readOutbox();
			},
			limits: { cpuMs: 5_000 },
		}),
		fuzzTarget({
			name: "redact",
			parser: "command-line/diagnose/redact.ts makeRedact",
			inputs: fc.tuple(
				mutatedText(logTexts, /([\s=:"]+)/),
				mutatedValue(fc.constantFrom<unknown>(kept, { a: ["--token", "x"], password: { b: 1 } })),
			),
			run: ([text, value]) => {
				const redact = makeRedact(["hunter22", "secret-of-mine"]);
				assert.ok(!redact.text(text).includes("hunter22"));
				redact.value(value);
			},
			mayThrow: neverThrows,
			limits: { cpuMs: 3_000 },
		}),
		fuzzTarget({
			name: "known-secrets",
			parser: "command-line/diagnose/known-secrets.ts readKnownSecrets",
			inputs: fc.tuple(
				json([kept, { controller: { proxy: "http://a:b@c" }, list: ["--credentials", "/x", 5] }]),
				mutatedText(logTexts),
			),
			run: async ([document, text]) => {
				writeFileSync(at("state/a.json"), document);
				writeFileSync(at("state/sub/b.pem"), text);
				const environment = { STILLPOINT_SCRIPTS_FOLDER: scripts, PGPASSWORD: text.slice(0, 100) };
				await readKnownSecrets({ stateDir: at("state"), configFile: at("state/a.json"), environment });
			},
			mayThrow: neverThrows,
			limits: { cpuMs: 3_000 },
		}),
	];
}

const message = { lang: "en-US", message: "REPORT" };
const statusFiles = [
	[
		{
			version: "1.0",
			timestampUTC: "2026-11-20T15:07:56Z",
			status: {
				name: "x",
				operation: "Snapshot",
				status: "success",
				code: 0,
				formattedMessage: message,
				substatus: [{ name: "report", status: "success", code: 0, formattedMessage: message }],
			},
		},
	],
];

function freshJournal(folder: string): { database: DatabaseSync } & Disposable {
	const path = join(folder, "journal.db");
	openJournal(path)[Symbol.dispose]();
	const database = new DatabaseSync(path);
	database.exec("PRAGMA synchronous=OFF");
	return { database, [Symbol.dispose]: () => void (database.isOpen && database.close()) };
}

function journalBytes(folder: string): Buffer {
	const path = join(folder, "sample.db");
	{
		using journal = openJournal(path);
		const job = { asker: "local", phase: "done", createdAt: "2026-11-20T15:07:56Z" } as const;
		for (const jobId of ["a", "b", "c"])
			journal.endJob({ ...job, jobId, order: orders[0] as never, report: { ...reports[0], jobId } as never }, 5);
	}
	return readFileSync(path);
}

function attempt<T>(work: () => T): T | string {
	try {
		return work();
	} catch (error) {
		return codeOf(error);
	}
}

function codeOf(error: unknown): string {
	if (error instanceof StillpointError && error.code !== "internal") return error.code;
	throw error;
}

import { randomUUID } from "node:crypto";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Verdict } from "../found-file-system.ts";
import { firstLine, runTool } from "../image-tools.ts";
import { runConfined } from "./confined-program.ts";
import type { DatabaseKind, DatabaseWork } from "./database-kind.ts";
import { findProgram } from "./find-program.ts";
import { parseControlFile } from "./postgresql-control.ts";
import type { ClusterCopy } from "./postgresql-copy.ts";
import { copyCluster } from "./postgresql-copy.ts";
import { judgeCluster } from "./postgresql-judgement.ts";
import { accessRules, checkScript, serverSettings } from "./postgresql-script.ts";
import { readHead } from "./read-head.ts";
import { withScratchFolder } from "./scratch-folder.ts";
import { parseSteps } from "./step-output.ts";

const evidence =
	"pg_ctl start (on a copy); pg_amcheck --all --install-missing --heapallindexed; pg_ctl stop; pg_checksums --check";

export const postgresql: DatabaseKind = {
	name: "PostgreSQL",
	tells: (name, head) => (head ? name === "PG_VERSION" : name === "global"),
	// Each database of a cluster has a PG_VERSION, too; only the cluster has `global`.
	find: ({ path, heads, folders }) =>
		majorOf(heads.get("PG_VERSION")) !== undefined && folders.has("global") ? [path] : [],
	check: async (path, work) => {
		const verdict = await checkCluster(path, work);
		return { evidence, ...verdict };
	},
};

/** `15`; of the versions before 10 the first two numbers. */
function majorOf(head: Buffer | undefined): string | undefined {
	return /^(\d+(?:\.\d+)?)\s*$/.exec(head?.toString("latin1") ?? "")?.[1];
}

const oldest = 13;

async function checkCluster(path: Buffer, work: DatabaseWork): Promise<Verdict> {
	const inCluster = (name: string) => Buffer.concat([path, Buffer.from(`/${name}`)]);
	const major = majorOf(await readHead(inCluster("PG_VERSION"), 64));
	const control = await readHead(inCluster("global/pg_control"), 8192);
	const name = `PostgreSQL ${major}`;
	// pg_basebackup writes it last, and pg_upgrade takes it away from the old cluster: such a folder is no database.
	if (!control)
		return { status: "unknown", detail: `${name}: no global/pg_control, so no cluster that could be started` };
	const facts = parseControlFile(control);
	if (!facts) {
		return { status: "fail", detail: `${name}: global/pg_control is cut or damaged (${control.length} bytes)` };
	}
	const found = `${name}, ${facts.state}, checkpoint ${facts.checkpoint}`;
	const unknown = (why: string): Verdict => ({ status: "unknown", detail: `${found}: ${why}` });
	if (!work.startServers) return unknown("no database server is started here");
	if (Number(major) < oldest) return unknown(`versions before ${oldest} are not looked into`);
	const bin = await findServer(String(major), work);
	if (bin === undefined) return unknown(`needs the server of the same version (package postgresql-${major})`);
	return withScratchFolder(work.scratchDir, async (folder) => {
		const copied = await copyCluster(path, folder, String(major), work);
		if ("status" in copied) return { ...copied, detail: `${found}: ${copied.detail}` };
		const steps = await runServer(bin, folder, String(major), copied, work);
		if ("failure" in steps) return unknown(steps.failure);
		const { status, detail } = judgeCluster(steps, copied);
		return { status, detail: `${found}: ${detail}` };
	});
}

async function runServer(bin: string, folder: string, major: string, copied: ClusterCopy, work: DatabaseWork) {
	const { endsRecovery, slots } = copied;
	const settings = serverSettings({ major: Number(major), endsRecovery, slots });
	await writeFile(join(folder, "postgresql.conf"), settings);
	await writeFile(join(folder, "pg_hba.conf"), accessRules);
	await writeFile(join(folder, "pg_ident.conf"), "");
	const { limitMs, signal } = work;
	const mark = randomUUID();
	const args = [bin, mark, String(Math.ceil(limitMs / 1000))];
	const limits = { folder, mostFileBytes: copied.bytes + 2 ** 31, limitMs, signal };
	const result = await runConfined(checkScript, args, limits);
	return result.failure === undefined ? parseSteps(result.output, mark) : { failure: result.failure };
}

/** The folder of the programs of this very version: another one can't read the files. */
async function findServer(
	major: string,
	{ programsPrefix: prefix, signal }: DatabaseWork,
): Promise<string | undefined> {
	const folders = [`lib/postgresql/${major}/bin`, `pgsql-${major}/bin`, `lib64/pgsql/postgresql-${major}/bin`];
	const server = await findProgram("postgres", prefix, folders);
	if (server === undefined) return undefined;
	const { output } = await runTool(server, ["--version"], signal);
	return new RegExp(` ${major}([.a-z ]|$)`).test(firstLine(output)) ? join(server, "..") : undefined;
}

import { randomUUID } from "node:crypto";
import { basename, join } from "node:path";
import type { Verdict } from "../found-file-system.ts";
import { runConfined } from "./confined-program.ts";
import { copyFile, copyTree } from "./copy-tree.ts";
import type { DatabaseKind, DatabaseWork } from "./database-kind.ts";
import { pathIn } from "./database-kind.ts";
import { findProgram } from "./find-program.ts";
import { withScratchFolder } from "./scratch-folder.ts";
import { parseSteps, stepFunction } from "./step-output.ts";

const isManifest = (name: string) => name.endsWith(".aof.manifest");
const isDump = (name: string, head: Buffer | undefined) =>
	name.endsWith(".rdb") && !name.startsWith("temp-") && head?.toString("latin1", 0, 5) === "REDIS";

/** A snapshot file of Redis or Valkey. Those that are being written (temp-PID.rdb) are none yet. */
export const redisDump: DatabaseKind = {
	name: "Redis dump",
	tells: (name, head) => isDump(name, head) || isManifest(name),
	find: ({ heads, ...sight }) =>
		// The base of an append-only file is checked with it.
		[...heads.keys()].some(isManifest)
			? []
			: [...heads].filter(([name, head]) => isDump(name, head)).map(([name]) => pathIn({ heads, ...sight }, name)),
	check: (path, work) =>
		checkWith("redis-check-rdb", work, async (folder) => {
			const copied = await copyFile(path, join(folder, "dump.rdb"), work.signal);
			return "status" in copied ? copied : { ...copied, file: "dump.rdb" };
		}),
};

/** An append-only file of Redis 7 and later: a folder with a manifest. */
export const redisAppendOnly: DatabaseKind = {
	name: "Redis append-only file",
	tells: isManifestFile,
	find: (sight) => [...sight.heads.keys()].filter(isManifest).map((name) => pathIn(sight, name)),
	check: (path, work) =>
		checkWith("redis-check-aof", work, async (folder) => {
			const name = basename(path.toString("utf8"));
			const copied = await copyTree(path.subarray(0, path.lastIndexOf("/")), join(folder, "aof"), work.signal);
			return "status" in copied ? copied : { ...copied, file: join("aof", name) };
		}),
};

function isManifestFile(name: string, head: Buffer | undefined): boolean {
	return head !== undefined && isManifest(name);
}

type Copied = { bytes: number; file: string };

async function checkWith(
	tool: "redis-check-rdb" | "redis-check-aof",
	work: DatabaseWork,
	copy: (folder: string) => Promise<Copied | Verdict>,
): Promise<Verdict> {
	const evidence = `${tool} COPY`;
	if (!work.startServers) return { status: "unknown", detail: "Redis: no database server is started here", evidence };
	const program =
		(await findProgram(tool, work.programsPrefix)) ??
		(await findProgram(tool.replace("redis", "valkey"), work.programsPrefix));
	if (program === undefined)
		return { status: "unknown", detail: `Redis: needs ${tool} (package redis-tools)`, evidence };
	return withScratchFolder(work.scratchDir, async (folder) => {
		const copied = await copy(folder);
		if ("status" in copied) return { ...copied, evidence };
		const mark = randomUUID();
		const { limitMs, signal } = work;
		const script = `${stepFunction}\nmark=$1; step check "$2" "/copy/$3"`;
		const limits = { folder, mostFileBytes: copied.bytes, limitMs, signal };
		const result = await runConfined(script, [mark, program, copied.file], limits);
		const step = parseSteps(result.output, mark).get("check");
		const name = tool === "redis-check-rdb" ? "Redis dump" : "Redis append-only file";
		if (result.failure !== undefined || !step) {
			return { status: "unknown", detail: `${name}: ${result.failure ?? "the check did not end"}`, evidence };
		}
		const { status, detail } = judgeRedis(step);
		return { status, detail: `${name}: ${detail}`, evidence };
	});
}

/** What redis-check-rdb and redis-check-aof of Redis 6 to 8 say. */
export function judgeRedis({ exitCode, output }: { exitCode: number; output: string }): Verdict {
	if (exitCode === 0) {
		const keys = /\[info\] (\d+) keys read/.exec(output)?.[1];
		return {
			status: "pass",
			detail: keys === undefined ? "its check finds nothing" : `${keys} keys read, its check finds nothing`,
		};
	}
	const lines = output.split("\n").map((line) => line.trim());
	const newer = lines.find((line) => /Can't handle RDB format version/.test(line));
	if (newer !== undefined) return { status: "unknown", detail: `newer than what is installed here: ${newer}` };
	const said = lines.filter((line) =>
		/^\[offset \d+\] (?!Checking|AUX|Selecting)|Expected|not valid|diff=[1-9]/.test(line),
	);
	return { status: "fail", detail: (said.join("; ") || `exit ${exitCode}`).slice(0, 300) };
}

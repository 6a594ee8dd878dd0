/**
 * `npm run docs:record`, by hand and as root: takes a snapshot of scratch disks and writes what `check`, `status` and
 * `report` then show on a terminal of 80 columns to docs/recordings. Nothing is frozen but the scratch disks.
 */
import { randomUUID } from "node:crypto";
import { mkdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { setTimeout as sleep } from "node:timers/promises";
import { stripVTControlCharacters } from "node:util";
import { connectController } from "../controller/client.ts";
import { readOperatorFiles } from "../controller/operator-files.ts";
import {
	controllerFolder,
	enrolAgent,
	startAgent,
	startController,
	startGuard as startProductGuard,
	writeAgentConfiguration,
} from "../demo/programs.ts";
import { bundle, makeScratchFolders } from "../demo/scratch-folders.ts";
import { makeScratchMachine } from "../demo/scratch-machine.ts";
import { startGuard } from "../test/fixtures/guard.ts";
import { runOnTerminal } from "../test/fixtures/pseudo-terminal.ts";

/** Where the scratch disks are mounted: seen in the recordings, so that it is short and always the same. */
const disksFolder = "/srv/demo";
const limitMs = 5 * 60_000;

async function record(): Promise<void> {
	const signal = AbortSignal.timeout(limitMs);
	await using folders = await makeScratchFolders(false);
	await bundle(folders.dist, signal);
	await using undo = new AsyncDisposableStack();
	await mkdir(disksFolder);
	undo.defer(() => rm(disksFolder, { recursive: true }));
	undo.use(startGuard({ dir: disksFolder, limitMs, remove: [disksFolder] }));
	await using machine = await makeScratchMachine(disksFolder);
	const database = new DatabaseSync(machine.databasePath);
	database.exec(
		"PRAGMA journal_mode = WAL; CREATE TABLE orders (id INTEGER PRIMARY KEY); INSERT INTO orders VALUES (1)",
	);
	database.close();

	await using controller = await startController(folders, signal);
	using client = connectController(await readOperatorFiles(controllerFolder(folders)));
	const { token } = await client.createToken();
	const agentId = await enrolAgent(folders, String(controller.ready["url"]), token, signal);
	const mountPoints = [...machine.disks.map((disk) => disk.fileSystem), machine.nested].map((one) => one.mountPoint);
	const config = await writeAgentConfiguration(folders, machine.databasePath, mountPoints);
	await using _guard = await startProductGuard(folders, signal);
	await using _agent = await startAgent(folders, config, signal);
	while (!(await client.readAgent(agentId)).connected) await sleep(100, undefined, { signal });
	await client.mapDisks(
		agentId,
		machine.disks.map(({ name, image }) => ({ name, image })),
	);
	const { jobId } = await client.orderSnapshot(agentId, { jobId: randomUUID(), level: "application" });
	const { report, error } = await client.waitForJob(jobId, { signal });
	if (report?.achieved !== "application") throw new Error(JSON.stringify({ error, scripts: report?.scripts }));

	const disks = machine.disks.flatMap(({ name }) => ["--disk", name]);
	const places = ["--config", config, "--state-dir", join(folders.base, "agent")];
	const shown = [
		{ words: ["check", ...disks], folders: places },
		{ words: ["status"], folders: [] },
		{ words: ["report"], folders: [] },
	];
	for (const one of shown) {
		const words = [...one.words, ...one.folders, "--run-dir", folders.run];
		const { text } = await runOnTerminal(words, { NO_COLOR: "1" });
		// An installed agent's folders need not be named.
		await writeFile(
			join(import.meta.dirname, "recordings", `${one.words[0]}.txt`),
			`$ stillpoint ${one.words.join(" ")}\n${whatStays(text)}\n`,
		);
	}
}

/** Progress is written anew in one line, and taken away at the end: after the last carriage return stands what stays. */
function whatStays(text: string): string {
	const lines = text.split("\n").map((line) => line.slice(line.lastIndexOf("\r") + 1));
	return stripVTControlCharacters(lines.join("\n")).trimEnd();
}

await record();

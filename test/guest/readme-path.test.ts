/** The README's way from nothing to a verified recovery point, by the bundled executable and nothing else. */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { execa } from "execa";
import { describe, expect, test } from "vitest";
import { type CommandName, commandOutputs } from "../../contracts/command-output.ts";
import { startProgram } from "../../demo/programs.ts";
import { bundle } from "../../demo/scratch-folders.ts";
import { expectDocument } from "../fixtures/expect-document.ts";
import { makeLoopFileSystem, startGuard } from "../fixtures/loop-file-system.ts";
import { poll } from "../fixtures/poll.ts";
import { requireTools } from "../fixtures/required-tools.ts";

const missing = requireTools("root", "mkfs.ext4", "losetup");

describe.skipIf(missing)(`the README's commands${missing ? `: ${missing}` : ""}`, () => {
	test("lead from a fresh controller and agent to a verified recovery point", async () => {
		await using undo = new AsyncDisposableStack();
		const signal = AbortSignal.timeout(100_000);
		const base = await mkdtemp("/var/lib/stillpoint-test-readme-");
		undo.defer(() => rm(base, { recursive: true, force: true }));
		const runFolder = await mkdtemp("/dev/shm/stillpoint-test-readme-");
		undo.defer(() => rm(runFolder, { recursive: true, force: true }));
		undo.use(startGuard({ dir: base, limitMs: 110_000 }));
		const guest = undo.use(await makeLoopFileSystem({ dir: base, fsType: "ext4", sizeMiB: 64, name: "guest" }));
		await writeFile(join(guest.mountPoint, "a file"), "kept");
		await bundle(join(base, "dist"), signal);
		const entry = join(base, "dist/stillpoint.mjs");
		const stateDir = ["--state-dir", join(base, "controller")];
		/** The exit status and the document of one command. */
		async function run(...words: string[]) {
			const result = await execa(process.execPath, [entry, ...words, "--json"], {
				reject: false,
				cancelSignal: signal,
			});
			expectDocument(nameOf(words), result.stdout);
			return { exitCode: result.exitCode, document: JSON.parse(result.stdout) };
		}
		const controller = (...words: string[]) => run("controller", ...words, ...stateDir);

		const listening = undo.use(
			await startProgram("controller", entry, ["controller", "run", ...stateDir, "--port", "0", "--json"], signal),
		);
		expectDocument("controller run", JSON.stringify(listening.ready));
		const { token } = (await controller("token")).document;
		const agentState = ["--state-dir", join(base, "agent")];
		const enrolled = await run(
			"agent",
			"enrol",
			"--controller",
			String(listening.ready["url"]),
			"--token",
			token,
			...agentState,
			"--run-dir",
			runFolder,
		);
		expect(enrolled.exitCode).toBe(0);
		const { agentId } = enrolled.document;
		// Only so that this test can never touch the machine's own disks; the README needs no configuration here.
		const config = join(base, "agent.json");
		const fileSystems = { include: [{ mountPoint: guest.mountPoint }] };
		await writeFile(config, JSON.stringify({ version: 1, fileSystems, scriptsFolder: join(base, "none") }), {
			mode: 0o600,
		});
		const places = [...agentState, "--log-dir", join(base, "log"), "--run-dir", runFolder];
		const agent = undo.use(
			await startProgram("agent", entry, ["agent", "run", "--config", config, ...places, "--json"], signal),
		);
		expectDocument("agent run", JSON.stringify(agent.ready));

		await poll(async () => (await controller("agents")).document.agents[0].connected).toBe(true);
		const disk = basename(guest.device);
		expect((await controller("agents", "map", agentId, `${disk}=${guest.imagePath}`)).exitCode).toBe(0);
		expect((await controller("agents", "status", agentId)).document).toMatchObject({ link: { connected: true } });
		expect((await controller("agents", "inventory", agentId)).exitCode).toBe(0);
		const taken = await controller("snapshot", agentId, "--accept", "file-system");
		// No application is configured, so this is less than asked, and accepted.
		expect(taken).toMatchObject({
			exitCode: 3,
			document: { level: "file-system", report: { because: ["no-applications"] } },
		});
		const { recoveryPoints } = (await controller("recovery-points")).document;
		expect(recoveryPoints).toMatchObject([{ id: taken.document.recoveryPointId, level: "file-system" }]);
		const verified = await controller("verify", taken.document.recoveryPointId);
		expect(verified).toMatchObject({ exitCode: 0, document: { agrees: true, looksLike: "file-system" } });
		expect((await controller("jobs")).document.jobs).toHaveLength(1);
		expect((await run("report", "--run-dir", runFolder)).document.jobId).toBe(taken.document.jobId);
	});
});

/** A group that is named alone is its list. */
function nameOf(words: readonly string[]): CommandName {
	const said = [3, 2, 1].map((count) => words.slice(0, count).join(" "));
	const name = said.flatMap((one) => [one, `${one} list`]).find((one) => Object.hasOwn(commandOutputs, one));
	if (name === undefined) throw new Error(`no command: ${words.join(" ")}`);
	return name as CommandName;
}

/** docs/admin-guide.md, then docs/check.md, as an admin would follow them: block by block, on disks of this test alone. */
import { type ChildProcess, spawn } from "node:child_process";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { execa } from "execa";
import { describe, expect, test } from "vitest";
import { bundleInto } from "../fixtures/bundle.ts";
import { makeLoopFileSystem, startGuard } from "../fixtures/loop-file-system.ts";
import { type PageBlock, parsePage } from "../fixtures/page-blocks.ts";
import { poll } from "../fixtures/poll.ts";
import { missingTools, requireTools } from "../fixtures/required-tools.ts";

const missing = requireTools("root", "mkfs.ext4", "losetup", "mount", "unshare");
const readPage = async (name: string) =>
	parsePage(await readFile(join(import.meta.dirname, "../../docs", name), "utf8"));
const limitMs = 100_000;

describe.skipIf(missing)(`the guide for admins${missing ? `: ${missing}` : ""}`, () => {
	test("leads from nothing to a protected machine, and to a database started from a recovery point", async () => {
		const blocks = await readPage("admin-guide.md");
		expect(blocks.filter(({ kind }) => kind === "run").length).toBeGreaterThan(15);
		await using undo = new AsyncDisposableStack();
		const reader = await makeReader(undo);
		for (const block of blocks) await reader.follow(block);
		expect(reader.said()).toContain("\nok\n3\n");
		const more = await readPage("check.md");
		expect(more.filter(({ kind }) => kind === "run")).toHaveLength(2);
		for (const block of more) await reader.follow(block);
	});
});

type Reader = { follow(block: PageBlock): Promise<void>; said(): string };

/** Does what a block says. The page's names stand for this test's own: vdb for a loop disk, /etc for a folder. */
async function makeReader(undo: AsyncDisposableStack): Promise<Reader> {
	const base = await mkdtemp("/var/lib/stillpoint-test-admin-");
	undo.defer(() => rm(base, { recursive: true, force: true }));
	const runFolder = await mkdtemp("/dev/shm/stillpoint-test-admin-");
	undo.defer(() => rm(runFolder, { recursive: true, force: true }));
	undo.use(startGuard({ dir: base, limitMs: limitMs + 10_000 }));
	const disk = makeLoopFileSystem({ dir: base, fsType: "ext4", sizeMiB: 48, name: "shop" });
	const [shop] = await Promise.all([disk.then((one) => undo.use(one)), bundleInto(join(base, "dist"))]);
	const database = new DatabaseSync(join(shop.mountPoint, "orders.db"));
	database.exec("PRAGMA journal_mode = WAL; CREATE TABLE orders (id INTEGER); INSERT INTO orders VALUES (1), (2), (3)");
	undo.defer(() => database.close());
	await writePrograms(base, runFolder, basename(shop.device));

	let output = "";
	let said = "";
	let url = "";
	const moved = (text: string): string => {
		const places: readonly (readonly [string, string])[] = [
			["--listen 192.0.2.1 --port 7443", "--listen 127.0.0.1 --port 0"],
			["https://192.0.2.1:7443", url],
			["/root/stillpoint/dist/", join(base, "dist/")],
			["/root/stillpoint.tar.gz", join(base, "stillpoint.tar.gz")],
			["/root/for-support.tar.gz", join(base, "for-support.tar.gz")],
			["/srv/vm1/vdb.img", shop.imagePath],
			["/srv/shop", shop.mountPoint],
			["/srv/restored", join(base, "restored")],
			["/var/lib/stillpoint-controller", join(base, "controller")],
			["/etc/stillpoint", join(base, "etc/stillpoint")],
			["TOKEN", findLast(said, /^stillpoint1\.\S+$/gm)],
			["AGENT", findLast(said, /\bagent-[0-9a-f]{16}\b/g)],
			["RECOVERY-POINT", findLast(said, /\brp-\d{14}-[0-9a-f]{8}\b/g)],
		];
		const named = places.reduce((all, [from, to]) => all.replaceAll(from, to), text);
		// Of paths of this test none has the word.
		return named.replaceAll(/\bvdb\b/g, basename(shop.device));
	};
	const environment = {
		...process.env,
		PATH: `${base}/bin:${dirname(process.execPath)}:/usr/sbin:/usr/bin:/sbin:/bin`,
	};

	/** Where another status than 0 is allowed, every line is a command of its own. */
	async function run({ text, statuses }: PageBlock): Promise<void> {
		const script = moved(text);
		const scripts = statuses.join() === "0" ? [script] : script.trim().split("\n");
		for (const one of scripts) await runScript(one, statuses);
	}

	async function runScript(script: string, statuses: readonly number[]): Promise<void> {
		const result = await execa("/bin/sh", ["-ec", script], {
			...{ cwd: base, env: environment, extendEnv: false, stdin: "ignore", all: true, reject: false },
			timeout: limitMs,
		});
		output = result.all;
		said += `${output}\n`;
		expect(statuses, `${script}\n${output}`).toContain(result.exitCode);
	}

	async function write({ file, text }: PageBlock): Promise<void> {
		const path = moved(file);
		await mkdir(dirname(path), { recursive: true, mode: 0o755 });
		const content = moved(text);
		await writeFile(
			path,
			path.endsWith("agent.json") ? ownDisksOnly(content, shop.mountPoint, dirname(path)) : content,
		);
	}

	return {
		said: () => said,
		async follow(block) {
			if (block.kind === "run") await run(block);
			else if (block.kind === "file") await write(block);
			else if (block.kind === "controller") url = await serve(undo, moved(block.text), environment, /ready at (\S+)/);
			else if (block.kind === "guard")
				await serve(undo, `${moved(block.text).trim()} --run-dir ${runFolder}`, environment, /guard (ready)/);
			else if (block.kind === "agent") {
				const places = `--config ${base}/etc/stillpoint/agent.json --state-dir ${base}/agent --log-dir ${base}/log`;
				const command = `${moved(block.text).trim()} ${places} --run-dir ${runFolder}`;
				await serve(undo, command, environment, /agent (ready)/);
				const isConnected = async () =>
					(await execa(join(base, "bin/stillpoint"), ["status"], { reject: false })).stdout.includes("connected to");
				await poll(isConnected).toBe(true);
			} else for (const line of block.text.trim().split("\n")) expect(output).toContain(line);
		},
	};
}

/** `stillpoint` as an installed one is: it finds its folders without being told. */
async function writePrograms(base: string, runFolder: string, disk: string): Promise<void> {
	const local = `--config ${base}/etc/stillpoint/agent.json`;
	const state = `--state-dir ${base}/agent`;
	const runDir = `--run-dir ${runFolder}`;
	await mkdir(join(base, "bin"));
	await mkdir(join(base, "etc/stillpoint"), { recursive: true });
	// What the page does to all disks is done to the test's own.
	const program = `#!/bin/sh
case " $* " in *" --disk "*) ;; " check "* | " diagnose "*) set -- "$@" --disk ${disk} ;; esac
case "$1 $2" in
controller\\ *) set -- "$@" --state-dir ${base}/controller ;;
"agent enrol") set -- "$@" ${state} ${runDir} ;;
"config check") set -- "$@" ${base}/etc/stillpoint/agent.json ;;
scripts\\ *) set -- "$@" ${local} ${runDir} ;;
check*) set -- "$@" ${local} ${state} ${runDir} ;;
diagnose*) set -- "$@" ${local} ${state} --log-dir ${base}/log ${runDir} ;;
explain*) ;;
*) set -- "$@" ${runDir} ;;
esac
exec ${process.execPath} ${base}/dist/stillpoint.mjs "$@"
`;
	await writeFile(join(base, "bin/stillpoint"), program, { mode: 0o755 });
	await writeFile(join(base, "bin/sudo"), '#!/bin/sh\nexec "$@"\n', { mode: 0o755 });
	if (missingTools(["sqlite3"]).length === 0) return;
	const asSqlite = `const all = (sql) => new (require("node:sqlite").DatabaseSync)(process.argv[1]).prepare(sql).all();
for (const sql of process.argv[2].split(";").filter((one) => one.trim())) console.log(Object.values(all(sql)[0])[0]);`;
	const sqlite3 = `#!/bin/sh\nexec ${process.execPath} -e '${asSqlite}' "$@"\n`;
	await writeFile(join(base, "bin/sqlite3"), sqlite3, { mode: 0o755 });
}

/** Only so that this test can never touch the machine's own disks and scripts. */
function ownDisksOnly(config: string, mountPoint: string, etc: string): string {
	const otherScripts = { azureFolder: null, qemuHookFolders: [], vmwareHookFolders: [] };
	const fileSystems = { include: [{ mountPoint }] };
	return JSON.stringify({ ...JSON.parse(config), fileSystems, otherScripts, scriptsFolder: join(etc, "scripts.d") });
}

/** Starts what the page calls a service, until the test ends. @returns what it says when it is ready */
async function serve(
	undo: AsyncDisposableStack,
	command: string,
	env: NodeJS.ProcessEnv,
	ready: RegExp,
): Promise<string> {
	const words = ["--pdeathsig", "TERM", "/bin/sh", "-c", `exec ${command.trim()}`];
	const child = spawn("setpriv", words, { env, stdio: ["ignore", "pipe", "pipe"] });
	undo.defer(() => stop(child));
	let heard = "";
	child.stderr.setEncoding("utf8").on("data", (text: string) => {
		heard += text;
	});
	return await new Promise((resolve, reject) => {
		child.stdout.setEncoding("utf8").on("data", (text: string) => {
			heard += text;
			const word = ready.exec(heard)?.[1];
			if (word !== undefined) resolve(word);
		});
		child.once("exit", (code) => reject(new Error(`${command} ended with ${code}: ${heard}`)));
	});
}

async function stop(child: ChildProcess): Promise<void> {
	if (child.exitCode !== null) return;
	const ended = new Promise((resolve) => child.once("exit", resolve));
	child.kill("SIGTERM");
	const timer = setTimeout(() => child.kill("SIGKILL"), 20_000);
	await ended;
	clearTimeout(timer);
}

function findLast(text: string, pattern: RegExp): string {
	return [...text.matchAll(pattern)].at(-1)?.[0] ?? "";
}

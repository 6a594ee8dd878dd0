/** What the tables of docs/security.md say of files, held to what a real agent, guard and controller leave after a job. */
import { lstat, readdir, readFile, rm } from "node:fs/promises";
import { basename, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type LinkRig, startLinkRig } from "../fixtures/link-rig.ts";
import { type ProductGuard, startProductGuard } from "../fixtures/product-guard.ts";
import { requireTools } from "../fixtures/required-tools.ts";

type Entry = { path: string; isFolder: boolean; mode: number; uid: number };

const missing = requireTools("root");
describe.skipIf(missing)(missing ? `the security page: ${missing}` : "the security page", () => {
	let rig: LinkRig;
	let roots: Record<string, string>;
	let guard: ProductGuard;

	beforeAll(async () => {
		rig = await startLinkRig();
		const { stateDir, logDir, runDir } = rig.folders.flags;
		roots = {
			"/var/lib/stillpoint/": stateDir,
			"/var/log/stillpoint/": logDir,
			"/run/stillpoint/": runDir,
			"/var/lib/stillpoint-controller/": rig.controller.info.stateDir,
		};
		// The tests' own cache of compiled code.
		await rm(join(runDir, "compile-cache"));
		guard = await startProductGuard(runDir);
		await rig.order("job-1");
		using client = await rig.client();
		while ((await client.readJob("job-1")).endedAt === undefined) await sleep(100);
	});
	afterAll(async () => {
		await guard?.[Symbol.asyncDispose]();
		await rig?.[Symbol.asyncDispose]();
	});

	test("every folder is 0700, every file 0600, and all is root's", async () => {
		const open: string[] = [];
		let seen = 0;
		for (const root of Object.values(roots))
			for (const { path, isFolder, mode, uid } of await walk(root)) {
				// What an extension makes in its own folder is its own affair; nobody else gets there.
				if (/FakeSnapshot-1\.0\/[^/]+$/.test(path)) continue;
				seen += 1;
				if (uid !== 0 || mode !== (isFolder ? 0o700 : 0o600)) open.push(`${path} ${uid} ${mode.toString(8)}`);
			}
		expect(open).toEqual([]);
		expect(seen).toBeGreaterThan(20);
	});

	test("names everything that is there", async () => {
		const page = await readFile("docs/security.md", "utf8");
		const named = [...page.matchAll(/^\| `(\/(?:var|run)\/[^`]+)`/gm)].map(([, path]) => path as string);
		const unnamed: string[] = [];
		for (const [shown, root] of Object.entries(roots))
			for (const name of await readdir(root)) {
				const found = named.some((path) => {
					const [first] = path.slice(shown.length).split("/");
					return path.startsWith(shown) && (first === name || first === "NAME");
				});
				// SQLite's own, beside the database while that is open.
				if (!found && !named.includes(`${shown}${name.replace(/-journal$/, "")}`)) unnamed.push(`${shown}${name}`);
			}
		expect(unnamed).toEqual([]);
	});

	test("names nothing that is not there", async () => {
		const page = await readFile("docs/security.md", "utf8");
		const entries = Object.values(roots).map(async (root) => (await walk(root)).map(({ path }) => basename(path)));
		const there = new Set((await Promise.all(entries)).flat());
		const lasting = [...page.matchAll(/^\| `\/(?:var|run)\/\S*\/([a-z.-]+\.[a-z]+)`/gm)].map(
			([, name]) => name as string,
		);
		expect(lasting.length).toBeGreaterThan(6);
		expect(lasting.filter((name) => !there.has(name))).toEqual([]);
	});
});

async function walk(folder: string): Promise<Entry[]> {
	const found: Entry[] = [];
	const add = async (path: string) => {
		const { mode, uid } = await lstat(path);
		const isFolder = (mode & 0o170000) === 0o040000;
		found.push({ path, isFolder, mode: mode & 0o7777, uid });
		if (isFolder) for (const name of await readdir(path)) await add(join(path, name));
	};
	await add(folder);
	return found;
}

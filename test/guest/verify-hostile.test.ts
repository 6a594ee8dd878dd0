/** Images that a hostile guest could make. All are unmounted file systems: nothing is frozen here. */
import { mkdir, mkdtemp, open, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { execa } from "execa";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { Verification } from "../../contracts/verification.ts";
import { readingOptions, recoveringOptions } from "../../controller/verify/mount-options.ts";
import { openPrivateMounts } from "../../controller/verify/private-mounts.ts";
import { verifyRecoveryPoint } from "../../controller/verify/verify-recovery-point.ts";
import { writeManifest } from "../fixtures/held-recovery-point.ts";
import { isMounted, makeLoopFileSystem, requireTools, startGuard } from "../fixtures/loop-file-system.ts";
import { poll } from "../fixtures/poll.ts";

const sizeMiB = 64;
const missing = requireTools("root", "mkfs.ext4", "e2fsck", "debugfs");
const undo: AsyncDisposableStack[] = [];
let dir = "";

beforeEach(async () => {
	if (missing) return;
	const stack = new AsyncDisposableStack();
	undo.push(stack);
	dir = await mkdtemp("/var/lib/stillpoint-test-hostile-");
	stack.defer(() => rm(dir, { recursive: true, force: true }));
	const guard = startGuard({ dir, limitMs: 120_000 });
	stack.defer(async () => guard[Symbol.dispose]());
});
afterEach(async () => {
	for (const stack of undo.splice(0)) await stack.disposeAsync();
});

/** A recovery point of one ext4 that was unmounted, with what `fill` and `spoil` made of it. */
async function makePoint(
	fill: (mountPoint: string) => Promise<void>,
	spoil: (image: string) => Promise<void> = async () => undefined,
): Promise<string> {
	const folder = join(dir, "point");
	await mkdir(folder);
	await using one = await makeLoopFileSystem({ dir, fsType: "ext4", sizeMiB, name: "one" });
	await fill(one.mountPoint);
	await one.close();
	await spoil(one.imagePath);
	await execa("cp", ["--sparse=always", one.imagePath, join(folder, "disk0.img")]);
	const now = new Date().toISOString();
	const held = { jobId: "hostile", frozenAt: now, thawedAt: now, markers: new Map() };
	await writeManifest(folder, [{ name: "disk0", image: "disk0.img", fileSystems: [one] }], held);
	return folder;
}

const verify = (folder: string, scratchDir = dir) =>
	verifyRecoveryPoint(folder, { scratchDir, signal: AbortSignal.timeout(20_000) });
const of = (verification: Verification, wanted: string) =>
	verification.findings.filter(({ check }) => check === wanted).map(({ status, detail }) => `${status}: ${detail}`);

async function makeDatabase(path: string): Promise<void> {
	const database = new DatabaseSync(path);
	database.exec("create table t (a); insert into t values (1)");
	database.close();
}

describe.skipIf(missing)(missing ? `hostile images: ${missing}` : "hostile images", () => {
	test("an ext4 that wants the kernel to panic at its first error does not get that", async () => {
		const folder = await makePoint(
			async () => undefined,
			async (image) => void (await execa("tune2fs", ["-e", "panic", image])),
		);
		const signal = AbortSignal.timeout(20_000);
		await using mounts = await openPrivateMounts(dir, [folder], signal);
		const part = { imagePath: join(folder, "disk0.img"), offsetBytes: 0, sizeBytes: sizeMiB << 20 };
		for (const [options, readOnly] of [
			[readingOptions("ext4"), true],
			[recoveringOptions("ext4"), false],
		] as const) {
			const mounted = await mounts.mount([part], { fsType: "ext4", options, readOnly });
			if ("failure" in mounted) throw new Error(mounted.failure);
			const pid = mounted.folder.split("/")[2];
			const line = (await readFile(`/proc/${pid}/mounts`, "utf8")).split("\n").find((one) => one.includes(dir));
			expect(line).toContain("errors=remount-ro");
			await mounts.unmountAll();
		}
	});

	test("what a neighbour unmounts meanwhile is unmounted, and clean", async () => {
		const folder = await makePoint(async () => undefined);
		await using neighbour = await makeLoopFileSystem({ dir, fsType: "ext4", sizeMiB, name: "neigh bour" });
		const scratch = join(dir, "scratch");
		await mkdir(scratch);
		await using mounts = await openPrivateMounts(scratch, [folder], AbortSignal.timeout(20_000));
		const part = { imagePath: join(folder, "disk0.img"), offsetBytes: 0, sizeBytes: sizeMiB << 20 };
		const mounted = await mounts.mount([part], { fsType: "ext4", options: readingOptions("ext4"), readOnly: true });
		expect(mounted).toHaveProperty("folder");
		const state = async () => (await execa("dumpe2fs", ["-h", neighbour.imagePath], { stderr: "ignore" })).stdout;
		expect(await state()).toContain("needs_recovery");
		await execa("umount", [neighbour.mountPoint]);
		// Another test may have copied the mount table just now, and hold it mounted until its own end.
		await poll(state, 60_000).not.toContain("needs_recovery");
	});

	test("a journal of a database that is a pipe or a link is not opened", async () => {
		const outside = join(dir, "pipe-of-this-host");
		await execa("mkfifo", [outside]);
		const folder = await makePoint(async (root) => {
			await makeDatabase(join(root, "a.db"));
			await execa("mkfifo", [join(root, "a.db-wal")]);
			await makeDatabase(join(root, "b.db"));
			await execa("ln", ["-s", outside, join(root, "b.db-journal")]);
			await makeDatabase(join(root, "c.db"));
		});
		const databases = of(await verify(folder), "database").sort();
		expect(databases).toEqual([
			expect.stringMatching(/^fail: \/a\.db: -wal can.t be copied/),
			expect.stringMatching(/^fail: \/b\.db: -journal can.t be copied/),
			expect.stringMatching(/^pass: \/c\.db: /),
		]);
	});

	test("a sparse database takes no more room than its data", async () => {
		const scratchDir = join(dir, "small");
		await mkdir(scratchDir);
		await execa("mount", ["-t", "tmpfs", "-o", "size=16m,mode=700", "none", scratchDir]);
		(undo[0] as AsyncDisposableStack).defer(async () => {
			if (await isMounted(scratchDir)) await execa("umount", [scratchDir]);
		});
		const folder = await makePoint(async (root) => {
			await makeDatabase(join(root, "huge.db"));
			await using file = await open(join(root, "huge.db"), "r+");
			await file.truncate(5 * 2 ** 30);
		});
		expect(of(await verify(folder, scratchDir), "database")).toEqual([expect.stringMatching(/^pass: \/huge\.db/)]);
	});

	test("folders that are linked into each other are walked once", async () => {
		const levels = 40;
		const folder = await makePoint(
			async (root) => {
				for (let level = 0; level <= levels; level += 1) await mkdir(join(root, `d${level}`));
				await writeFile(join(root, `d${levels}`, "file"), "x");
			},
			async (image) => {
				const links = Array.from({ length: levels }, (_, level) =>
					["a", "b"].map((name) => `link d${level + 1} d${level}/${name}`),
				);
				await execa("debugfs", ["-w", "-f", "-", image], { input: `${links.flat().join("\n")}\n` });
			},
		);
		const verification = await verify(folder);
		expect(of(verification, "files")).toEqual([expect.stringContaining("more than once")]);
		expect(verification).toMatchObject({ looksLike: "crash", agrees: false });
	});

	test("a checker that complains without end has found fault", async () => {
		const folder = await makePoint(async () => undefined);
		const tools = join(dir, "tools");
		await mkdir(tools);
		await writeFile(join(tools, "e2fsck"), "#!/bin/sh\nexec yes complaint\n", { mode: 0o755 });
		const { PATH } = process.env;
		process.env["PATH"] = `${tools}:${PATH}`;
		try {
			const verification = await verify(folder);
			expect(of(verification, "structure")).toEqual([expect.stringMatching(/^fail: .*said more than/)]);
			expect(verification).toMatchObject({ looksLike: "crash", agrees: false });
		} finally {
			process.env["PATH"] = PATH;
		}
	});

	test("nothing is left behind", async () => {
		const folder = await makePoint(async (root) => makeDatabase(join(root, "a.db")));
		const scratchDir = join(dir, "scratch");
		expect(await verify(folder, scratchDir)).toMatchObject({ looksLike: "file-system", agrees: true });
		expect(await readdir(scratchDir)).toEqual([]);
	});
});

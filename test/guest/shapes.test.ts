/** The shapes of storage that the fault sweep works on: that they are what they say, and that they always go away. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { execa } from "execa";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { startGuard } from "../fixtures/loop-file-system.ts";
import { poll } from "../fixtures/poll.ts";
import { findLeftovers } from "../fixtures/shapes/find-leftovers.ts";
import { freezeShape } from "../fixtures/shapes/freeze-shape.ts";
import { lacksForShape, openShape, type Shape, shapeKinds } from "../fixtures/shapes.ts";
import { isWritable } from "../fixtures/writable.ts";

const program = fileURLToPath(new URL("../fixtures/shapes/open-shape-program.ts", import.meta.url));

describe.concurrent("shapes of storage", () => {
	let dir: string;
	let guard: Disposable;
	beforeAll(async () => {
		dir = await mkdtemp("/var/lib/stillpoint-test-");
		guard = startGuard({ dir, limitMs: 120_000 });
	});
	afterAll(async () => {
		guard[Symbol.dispose]();
		await rm(dir, { recursive: true, force: true });
	});

	for (const kind of shapeKinds) {
		const missing = lacksForShape(kind);
		const why = missing ? `: ${missing}` : "";

		test.skipIf(missing)(`${kind} can be written everywhere, and is gone afterwards, frozen or not${why}`, async () => {
			await using undo = new AsyncDisposableStack();
			const shape = undo.use(await openShape(kind, { dir }));
			expect(await writable(shape)).toEqual(shape.writable);
			expect(await shape.checkShape()).toEqual([]);
			expect(await shape.thaw()).toEqual([]);
			await freezeShape(shape);
			expect(await writable(shape, 300)).toEqual([]);
			expect(await shape.checkShape()).toEqual([]);
			await undo.disposeAsync();
			expect(findLeftovers(shape.folder)).toEqual([]);
		});
	}

	const possible = shapeKinds.filter((kind) => lacksForShape(kind) === undefined);
	test.skipIf(possible.length === 0)(
		"all are taken away by the guard when whoever froze them was killed",
		async () => {
			await using undo = new AsyncDisposableStack();
			const own = await mkdtemp(`${dir}/killed-`);
			const child = spawn(process.execPath, [program, own, ...possible], { stdio: ["ignore", "pipe", "inherit"] });
			undo.defer(() => void child.kill("SIGKILL"));
			const [text] = (await once(child.stdout, "data")) as [Buffer];
			const folders = text.toString().trim().split(" ");
			for (const folder of folders) expect(findLeftovers(folder).join()).toMatch(/mount .*loop .*files/);
			child.kill("SIGKILL");
			await poll(() => folders.flatMap(findLeftovers), 60_000).toEqual(folders.map((folder) => `files ${folder}`));
		},
		90_000,
	);

	test.skipIf(lacksForShape("nested"))("whatever was changed is named", async () => {
		await using shape = await openShape("nested", { dir });
		const [upper, , beside] = shape.writable as [string, string, string];
		await execa("mount", ["-o", "remount,noatime", beside]);
		await execa("umount", [upper]);
		await execa("mount", ["-t", "tmpfs", "tmpfs", beside]);
		const changes = (await shape.checkShape()).map((change) =>
			change
				.replace(shape.folder, "")
				.replace(/ \(.*?\)/, "")
				.replace(/loop\d+/, "loop"),
		);
		expect(changes.toSorted()).toMatchObject([
			expect.stringMatching(/^no longer: mount \S+ on \/beside rw,relatime;/),
			expect.stringMatching(/^no longer: mount \S+ on \/lower\/upper rw,/),
			expect.stringMatching(/^now: mount \S+ on \/beside rw,noatime;/),
			expect.stringMatching(/^now: mount tmpfs on \/beside rw,/),
		]);
	});

	test.skipIf(lacksForShape("namespace"))(
		"a keeper that ended is named, and what it kept is gone, frozen or not",
		async () => {
			await using undo = new AsyncDisposableStack();
			const shape = undo.use(await openShape("namespace", { dir }));
			await freezeShape(shape);
			const [far] = shape.writable as [string, string];
			const pid = far.split("/")[2] as string;
			process.kill(Number(pid), "SIGKILL");
			await poll(async () => (await shape.checkShape()).join("; ")).toMatch(
				new RegExp(`no longer: mount \\S+ .*/far .*no longer: process ${pid}: lives; now: process ${pid}: ended`),
			);
			await undo.disposeAsync();
			expect(findLeftovers(shape.folder)).toEqual([]);
		},
	);

	test.skipIf(lacksForShape("swap-file"))("a swap file goes though nothing leads to it any more", async () => {
		await using undo = new AsyncDisposableStack();
		const shape = undo.use(await openShape("swap-file", { dir }));
		await execa("umount", ["--lazy", shape.writable[0] as string]);
		const backing = shape.disks.map((name) => `/sys/block/${name}/loop/backing_file`);
		await undo.disposeAsync();
		expect(findLeftovers(shape.folder)).toEqual([]);
		await poll(() => backing.filter((file) => existsSync(file) && readFileSync(file, "utf8").includes(dir))).toEqual(
			[],
		);
	});

	test.skipIf(lacksForShape("swap-file"))("swap that is off is named, and a loop that was taken away", async () => {
		await using swap = await openShape("swap-file", { dir });
		await execa("swapoff", [`${swap.writable[0]}/swap`]);
		expect((await swap.checkShape()).join("\n")).toMatch(/^no longer: swap \S+: on\nnow: swap \S+: off$/);
		await using shape = await openShape("own-state", { dir });
		await execa("umount", [shape.writable[0] as string]);
		await execa("losetup", ["--detach", `/dev/${shape.disks[0]}`]);
		for (const word of [/^no longer: mount/m, /^now: loop \/dev\/loop\d+: -$/m])
			await poll(async () => (await shape.checkShape()).join("\n")).toMatch(word);
	});
});

async function writable({ writable: folders }: Shape, limitMs?: number): Promise<string[]> {
	const answers = await Promise.all(folders.map((folder) => isWritable(folder, limitMs)));
	return folders.filter((_, index) => answers[index]);
}

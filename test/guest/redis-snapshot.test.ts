/** A real job over real Redis servers under write load: what was acknowledged before the freeze is in the image. */
import { copyFile, cp, mkdir, mkdtemp, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { execa } from "execa";
import { describe, expect, test } from "vitest";
import { attachLoop, requireTools, unmount } from "../fixtures/loop-file-system.ts";
import { poll } from "../fixtures/poll.ts";
import { missingKeys, startRedis, startRedisWriter } from "../fixtures/redis-server.ts";
import { takeSnapshot, toFrozen } from "../fixtures/snapshot-asker.ts";
import { useSnapshotBench } from "../fixtures/snapshot-bench.ts";

const missing = requireTools("root", "mkfs.ext4", "losetup", "mount", "fsfreeze", "redis-cli");
const kinds = { aof: ["--appendonly", "yes", "--save", ""], rdb: ["--appendonly", "no", "--save", "3600 1"] };

describe.skipIf(missing)(`Redis in a job${missing ? `: ${missing}` : ""}`, () => {
	const bench = useSnapshotBench();

	test("two servers under load: application, nothing acknowledged is missing in the image, writers go on", async () => {
		const { one, dir, defer } = bench;
		const sockets = await mkdtemp(join(dir, "sockets-"));
		const scripts = join(dir, "scripts");
		await cp(join(import.meta.dirname, "../../scripts"), scripts, { recursive: true });
		const dropIns = join(dir, "scripts.d");
		await mkdir(dropIns);
		const loads = [];
		for (const [kind, args] of Object.entries(kinds)) {
			const server = await startRedis({ folder: join(one.mountPoint, kind), socketFolder: sockets, args });
			defer(() => server[Symbol.asyncDispose]());
			const writers = ["a", "b"].map((name) => ({ name, writer: startRedisWriter(server.socket, name) }));
			for (const { writer } of writers) defer(() => writer[Symbol.asyncDispose]());
			loads.push({ kind, args, server, writers });
			const command = [join(scripts, "redis/redis-hold.mjs"), "--socket", server.socket];
			const dropIn = { version: 1, application: kind, session: { command } };
			await writeFile(join(dropIns, `${kind}.json`), JSON.stringify(dropIn));
		}
		const all = loads.flatMap(({ writers }) => writers.map(({ writer }) => writer));
		const counts = () => all.map((writer) => writer.acknowledged());
		await poll(() => Math.min(...counts())).toBeGreaterThan(50);

		const host = await bench.start([one], { level: "application" }, { request: { scriptsFolder: dropIns } });
		await toFrozen(host);
		const frozen = counts();
		const image = join(dir, "copy.img");
		await copyFile(one.imagePath, image);
		expect(counts()).toEqual(frozen);
		const report = await takeSnapshot(host, [one]);
		expect(report.scripts.map(({ name, held }) => `${name} ${held}`).sort()).toEqual(["aof true", "rdb true"]);
		expect(report).toMatchObject({ achieved: "application", because: [] });
		await poll(() => Math.min(...counts().map((count, index) => count - (frozen[index] ?? 0)))).toBeGreaterThan(10);

		const copy = join(dir, "copy");
		await mkdir(copy);
		const device = await attachLoop(image);
		defer(() => execa("losetup", ["--detach", device], { reject: false }));
		await execa("mount", ["-t", "ext4", device, copy]);
		defer(() => unmount(copy));
		for (const [index, { kind, args, writers }] of loads.entries()) {
			const restored = await startRedis({ folder: join(copy, kind), socketFolder: sockets, args });
			defer(() => restored[Symbol.asyncDispose]());
			for (const [position, { name }] of writers.entries())
				expect(await missingKeys(restored, name, frozen[index * 2 + position] ?? 0)).toEqual([]);
		}
	});
});

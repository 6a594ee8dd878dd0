import { mkdir, mkdtemp, readdir, rm, utimes, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { pruneRunFolder } from "../../extensions/vm-snapshot-linux/prune-run-folder.ts";

test("of past jobs only the newest are kept, and nothing else is touched", async () => {
	const folder = await mkdtemp(join(tmpdir(), "stillpoint-run-"));
	try {
		await mkdir(join(folder, "reports"));
		await writeFile(join(folder, "agent.pid"), "");
		for (let job = 0; job < 40; job += 1) {
			for (const path of [join(folder, `window-${job}.jsonl`), join(folder, "reports", `${job}.json`)]) {
				await writeFile(path, "");
				await utimes(path, 1000 + job, 1000 + job);
			}
		}
		await pruneRunFolder(folder);
		const reports = (await readdir(join(folder, "reports"))).map((name) => Number.parseInt(name, 10));
		expect(reports.sort((a, b) => a - b)).toEqual(Array.from({ length: 32 }, (_, index) => index + 8));
		const left = await readdir(folder);
		expect(left.filter((name) => name.startsWith("window-"))).toHaveLength(32);
		expect(left).toContain("agent.pid");
		await pruneRunFolder(join(folder, "none"));
	} finally {
		await rm(folder, { recursive: true });
	}
});

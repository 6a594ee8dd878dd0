/** What psql reads of a credentials file, which needs no server. */
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { startHoldScript } from "../fixtures/hold-script.ts";
import { requireTools } from "../fixtures/required-tools.ts";

const missing = requireTools("root");

test.skipIf(missing)(
	`psql reads the credentials file that was looked at, not the one that took its place${missing ? `: ${missing}` : ""}`,
	async () => {
		await using stack = new AsyncDisposableStack();
		const folder = await mkdtemp("/dev/shm/stillpoint-test-credentials-");
		stack.defer(() => rm(folder, { recursive: true, force: true }));
		const [file, other, seen] = ["file", "other", "seen"].map((name) => join(folder, name)) as [string, string, string];
		await writeFile(file, "[stillpoint]\nhost=/looked-at\n", { mode: 0o600 });
		await writeFile(other, "[stillpoint]\nhost=/of-somebody-else\n", { mode: 0o600 });
		await mkdir(join(folder, "bin"));
		const client = `#!/bin/sh\nmv ${other} ${file}\ncat "$PGSERVICEFILE" >${seen}\necho "no server" >&2\nexit 2\n`;
		await writeFile(join(folder, "bin/psql"), client, { mode: 0o755 });
		const args = ["--credentials", file, "--client-folder", join(folder, "bin")];
		await using refused = startHoldScript("postgresql/postgresql-hold.mjs", args, { input: {} });
		expect(await refused.ended).toBe(69);
		expect(await readFile(file, "utf8")).toContain("/of-somebody-else");
		expect(await readFile(seen, "utf8")).toBe("[stillpoint]\nhost=/looked-at\n");
	},
);

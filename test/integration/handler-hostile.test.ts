import { execFileSync, execSync } from "node:child_process";
import { chmodSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type HandlerBench, makeHandlerBench } from "../fixtures/handler-bench.ts";
import { requireTools } from "../fixtures/required-tools.ts";

const missing = requireTools("root", "unshare", "mount", "openssl");
const shell = "Contoso.ShellHandler";

describe.skipIf(missing)(`what lies where drop-ins lie${missing ? `: ${missing}` : ""}`, () => {
	let bench: HandlerBench;
	let folder: string;
	beforeAll(async () => {
		bench = makeHandlerBench();
		folder = join(bench.folders.root, "extensions.d");
		bench.addPackage("shell-handler");
		bench.want(shell, { sequenceNumber: 1 });
		const deep = `{"version":1,"name":"Deep","publicSettings":{"a":${"[".repeat(100_000)}${"]".repeat(100_000)}}}`;
		writeFileSync(join(folder, "Deep.json"), deep);
		writeFileSync(join(folder, "two\nlines.json"), "{}");
		writeFileSync(join(folder, "\u001b[31mred;reboot.json"), "{}");
		writeFileSync(Buffer.concat([Buffer.from(`${folder}/`), Buffer.from([0xff, 0xfe]), Buffer.from(".json")]), "{}");
		execFileSync("mkfifo", [join(folder, "Fifo.json")]);
		mkdirSync(join(folder, "Folder.json"));
		execSync(`ln -s /etc/shadow ${folder}/Shadow.json; ln -s nowhere ${folder}/Nowhere.json`);
		execSync(`truncate -s 1G ${folder}/Large.json`);
		writeFileSync(join(folder, "Open.json"), '{"version":1,"name":"Open"}');
		chmodSync(join(folder, "Open.json"), 0o666);
		await bench.start();
	});
	afterAll(() => bench?.[Symbol.asyncDispose]());

	test("concerns nobody but its own name; what it holds is not told, and the list can be read", async () => {
		await bench.until(shell, (one) => one.status === "success");
		const list = await bench.list();
		for (const name of ["Fifo", "Folder", "Shadow", "Nowhere", "Large", "Open"])
			expect(list.find((one) => one.name === name)).toMatchObject({ state: expect.stringMatching(/^Failed: /) });
		expect(JSON.stringify(list)).not.toContain("root:");
		for (const { name } of list) expect(name).toMatch(/^[A-Za-z0-9][A-Za-z0-9._-]*$/);
	});

	test("lets the next apply go on with what is there, also when the folder itself is open to others", async () => {
		chmodSync(folder, 0o777);
		await expect(bench.apply()).rejects.toThrow(/writable by group or others/);
		chmodSync(folder, 0o755);
		bench.want(shell, { sequenceNumber: 2 });
		await bench.apply();
		await bench.until(shell, (one) => one.sequenceNumber === 2 && one.status === "success");
	});
});

/** What every shipped script keeps, so that a new one can't be forgotten: each folder of scripts/ besides the kit. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import {
	existsSync,
	mkdtempSync,
	readdirSync,
	readFileSync,
	rmSync,
	statSync,
	symlinkSync,
	writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { scriptDropInSchema } from "../../contracts/script-drop-in.ts";

const root = join(import.meta.dirname, "../..");
const installedAt = "/usr/lib/stillpoint/";
const nowhere = "/nonexistent";

/** How each is told where nothing is, and the exit status of a dry run there. */
const withoutServer: Record<string, { args: readonly string[]; status: number; takesCredentials: boolean }> = {
	mariadb: { args: ["--socket", `${nowhere}/mysqld.sock`], status: 69, takesCredentials: true },
	mongodb: { args: ["--socket", `${nowhere}/mongodb.sock`], status: 69, takesCredentials: true },
	oracle: {
		args: ["--sid", "SHOP", "--oracle-home", nowhere, "--os-user", "root"],
		status: 69,
		takesCredentials: false,
	},
	postgresql: { args: ["--socket", nowhere], status: 69, takesCredentials: true },
	redis: { args: ["--socket", `${nowhere}/redis.sock`], status: 69, takesCredentials: true },
	sqlite: { args: [`${nowhere}/shop.sqlite`], status: 66, takesCredentials: false },
};
const names = readdirSync(join(root, "scripts")).filter((name) => name !== "kit");

test("each folder of scripts/ stands in this table", () => {
	expect(names.sort()).toEqual(Object.keys(withoutServer).sort());
});

describe.each(names)("%s", (name) => {
	const folder = join(root, "scripts", name);
	const program = join(folder, `${name}-hold.mjs`);
	let scratch: string;
	beforeAll(() => {
		scratch = mkdtempSync("/dev/shm/stillpoint-test-scripts-");
	});
	afterAll(() => rmSync(scratch, { recursive: true, force: true }));

	/** As a dry run of Stillpoint: one line on stdin, and its end. */
	async function run(...args: string[]) {
		const child = spawn(program, args, { env: { PATH: `${dirname(process.execPath)}:/usr/bin:/bin` }, cwd: "/" });
		child.stdin.on("error", () => undefined);
		child.stdin.end("{}\n");
		const output = { stdout: "", stderr: "" };
		child.stdout.on("data", (chunk) => {
			output.stdout += chunk;
		});
		child.stderr.on("data", (chunk) => {
			output.stderr += chunk;
		});
		const [status] = (await once(child, "close")) as [number | null];
		expect(output.stderr).not.toMatch(/^ +at /m);
		return { status, ...output };
	}

	test("is an executable with a shebang and a README that docs/databases.md links to", () => {
		expect(statSync(program).mode & 0o777).toBe(0o755);
		expect(readFileSync(program, "utf8").split("\n")[0]).toBe("#!/usr/bin/env node");
		expect(existsSync(join(folder, "README.md"))).toBe(true);
		const index = readFileSync(join(root, "docs/databases.md"), "utf8");
		expect(index).toContain(`](../scripts/${name}/README.md)`);
	});

	test("example.json is a drop-in that names scripts and options which are there, and a dry run", async () => {
		const dropIn = scriptDropInSchema.parse(JSON.parse(readFileSync(join(folder, "example.json"), "utf8")));
		expect(dropIn.dryRun).toBe(true);
		expect(dropIn.session?.command[0]).toBe(`${installedAt}scripts/${name}/${name}-hold.mjs`);
		for (const step of [dropIn.session, dropIn.pre, dropIn.post]) {
			if (step === undefined) continue;
			const [script = "", ...args] = step.command;
			expect(existsSync(script.replace(installedAt, `${root}/`)), script).toBe(true);
			expect(await run(...args, "--help")).toMatchObject({ status: 0, stderr: "" });
		}
	});

	test("tells its usage, refuses what it does not know, and prints no value of that", async () => {
		const [help, unknown] = await Promise.all([run("--help"), run("--password=correct-secret")]);
		expect(help).toMatchObject({ status: 0, stderr: "", stdout: expect.stringContaining(`${name}-hold.mjs`) });
		expect(help.stdout).toContain("--dry-run");
		expect(unknown).toMatchObject({ status: 64, stdout: "" });
		expect(unknown.stderr).toContain("unknown option --password");
		expect(unknown.stderr).not.toContain("correct-secret");
	});

	test("a dry run where nothing is says so in a sentence", async () => {
		const { args = [], status } = withoutServer[name] ?? {};
		const tried = await run(...args, "--dry-run");
		expect(tried).toMatchObject({ status, stdout: "" });
		expect(tried.stderr).toMatch(new RegExp(`^${name}-hold: .{10,}\n$`));
	});

	test("credentials that others can read, or that are not there or a link, are refused by their path", async () => {
		if (withoutServer[name]?.takesCredentials !== true) {
			expect((await run("--credentials", nowhere)).status).toBe(64);
			return;
		}
		const open = join(scratch, "open");
		writeFileSync(open, "password = correct-secret\n", { mode: 0o644 });
		symlinkSync(open, join(scratch, "link"));
		const paths = [open, join(scratch, "link"), join(scratch, "none")];
		const tried = await Promise.all(paths.map((path) => run("--credentials", path, "--dry-run")));
		for (const [index, { status, stderr }] of tried.entries()) {
			expect(status).toBe(78);
			expect(stderr).toContain(paths[index]);
			expect(stderr).not.toContain("correct-secret");
		}
	});
});

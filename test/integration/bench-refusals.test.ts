import { join } from "node:path";
import { execa } from "execa";
import { describe, expect, test } from "vitest";
import { requireTools } from "../fixtures/required-tools.ts";

const program = join(import.meta.dirname, "../../bench/run-bench.ts");
const run = (command: string[], words: string[]) => {
	const [file = process.execPath, ...args] = [...command, process.execPath];
	return execa(file, [...args, program, ...words], { reject: false });
};

describe("npm run bench", () => {
	test.each([
		["nothing to measure", [], "say which"],
		["an unknown option", ["freeze", "--fast"], "--fast"],
		["too few rounds", ["freeze", "--rounds", "1"], "--rounds"],
		["an unknown case", ["freeze", "--case", "77", "--json"], 'no case "77"'],
	])("%s: status 2, why and the usage on stderr, nothing on stdout", async (_what, words, why) => {
		const { exitCode, stdout, stderr } = await run([], words);
		expect({ exitCode, stdout }).toEqual({ exitCode: 2, stdout: "" });
		expect(stderr.split("\n")[0]).toContain(why);
		expect(stderr).toContain("usage:");
	});

	const lacking = requireTools("root", "setpriv");
	test.skipIf(lacking)(`without root nothing is measured${lacking ? ` (${lacking})` : ""}`, async () => {
		const asNobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
		const { exitCode, stdout, stderr } = await run(asNobody, ["idle", "--quick"]);
		expect({ exitCode, stdout }).toEqual({ exitCode: 69, stdout: "" });
		expect(stderr).toContain("needs root");
	});
});

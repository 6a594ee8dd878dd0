import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { readTestSettings } from "../../command-line/extension-test-settings.ts";

describe("settings of `stillpoint extensions test`", () => {
	let file: string;
	beforeAll(async () => {
		file = join(await mkdtemp(join(tmpdir(), "stillpoint-test-settings-")), "settings.json");
	});
	afterAll(() => rm(join(file, ".."), { recursive: true }));

	test.each([
		["an unknown field", '{"protectedSetings":{}}', 'settings.json: Unrecognized key: "protectedSetings"'],
		["a field of another type", '{"unchanged":["a",7]}', "settings.json: unchanged.1: Invalid input: expected string"],
		[
			"no JSON, without what stands in it",
			'{"protectedSettings":{"token":"open sesame"},}',
			"settings.json: is no JSON",
		],
	])("%s is said with the file and the field", async (_, text, message) => {
		await writeFile(file, text);
		const refused = expect(readTestSettings(file)).rejects;
		await refused.toMatchObject({ code: "settings-invalid", message: expect.stringContaining(message) });
		await expect(readTestSettings(file)).rejects.not.toMatchObject({ message: expect.stringContaining("sesame") });
	});

	test("what is right is read", async () => {
		await writeFile(file, '{"publicSettings":{"a":1},"unchanged":["b"]}');
		expect(await readTestSettings(file)).toEqual({ publicSettings: { a: 1 }, unchanged: ["b"] });
	});
});

import { mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { z } from "zod";
import { findSmallFile, findSmallFileSync } from "../../platform/read-small-file.ts";
import { findSmallJson, findSmallJsonSync, readSmallJson } from "../../platform/read-small-json.ts";
import { badFiles, strangeFiles } from "../fixtures/bad-files.ts";

const is = {
	code: "state-unusable",
	limitBytes: 100,
	schema: z.strictObject({ version: z.literal(1), inner: z.strictObject({ word: z.string() }).optional() }),
} as const;
let folder: string;
let path: string;

beforeEach(() => {
	folder = mkdtempSync("/dev/shm/stillpoint-test-small-");
	path = join(folder, "a.json");
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

/** Both forms must say the same. */
async function fault(kind: Parameters<typeof findSmallJson>[1] = is) {
	const found = await findSmallJson(path, kind).catch((error: unknown) => error);
	let again: unknown;
	try {
		again = findSmallJsonSync(path, kind);
	} catch (error) {
		again = error;
	}
	expect(again).toEqual(found);
	return found;
}

describe("a small file of JSON", () => {
	test("that is good is read, also through a link, up to its very limit, without its byte order mark", async () => {
		writeFileSync(`${path}.target`, `\ufeff${'{"version":1}'.padEnd(97)}`);
		symlinkSync(`${path}.target`, path);
		expect(await fault()).toEqual({ version: 1 });
	});

	test("that is not there is undefined, or a fault where there must be one", async () => {
		expect(await fault()).toBeUndefined();
		await expect(readSmallJson(path, is)).rejects.toMatchObject({
			code: "state-unusable",
			message: `${path} does not exist`,
		});
	});

	test.each(badFiles.map((one) => [one.name, one] as const))("that is %s is told by its path", async (_name, bad) => {
		bad.put(path);
		expect(await fault()).toMatchObject({
			code: "state-unusable",
			message: expect.stringMatching(bad.says),
			details: { path },
		});
	});

	test.each([
		["an unknown key", '{"version":1,"x":2}', /unknown key "x"/],
		["an unknown inner key", '{"version":1,"inner":{"word":"a","x":2}}', /inner: unknown key "x"/],
		["a wrong type inside", '{"version":1,"inner":{"word":7}}', /inner\.word: /],
		["one byte too much", '{"version":1}'.padEnd(101), /is larger than 100 bytes/],
	])("with %s is told by its field", async (_name, text, says) => {
		writeFileSync(path, text);
		expect(await fault()).toMatchObject({ message: expect.stringMatching(says) });
	});

	test("below a file is a fault, not an absence", async () => {
		writeFileSync(path, "{}");
		await expect(findSmallFile(join(path, "b"), is)).rejects.toThrow(/ENOTDIR/);
	});

	describe.skipIf(process.getuid?.() !== 0)("that must be our own", () => {
		test.each(strangeFiles.map((one) => [one.name, one] as const))("is not %s", async (_name, strange) => {
			strange.put(path);
			expect(await fault({ ...is, refuseLinks: true, ownOnly: true })).toMatchObject({
				message: expect.stringMatching(strange.says),
			});
			// Negative control: where that does not matter, it is read.
			expect(findSmallFileSync(path, is)).toBe("{}");
		});
	});
});

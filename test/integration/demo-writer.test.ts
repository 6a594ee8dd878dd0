import { mkdtempSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { startWriter } from "../../demo/writers.ts";

describe("a writer of the demo that goes on for ever", () => {
	let folder: string;
	beforeEach(() => {
		folder = mkdtempSync("/dev/shm/stillpoint-test-writer-");
	});
	afterEach(() => rmSync(folder, { recursive: true, force: true }));

	test("begins its file anew before the disk is full, and goes on", async () => {
		const path = join(folder, "journal.dat");
		await using writer = await startWriter("file", path, 3);
		await sleep(200);
		expect(statSync(path).size).toBeLessThanOrEqual(3 * 4096);
		const { acknowledgedAt } = await writer.stop();
		expect(acknowledgedAt.length).toBeLessThanOrEqual(3);
		expect(acknowledgedAt.at(-1)).toBeGreaterThan(Date.now() - 5_000);
	});

	test("begins its table anew", async () => {
		const path = join(folder, "orders.db");
		await using writer = await startWriter("sqlite", path, 3);
		await sleep(200);
		await writer.stop();
		using database = new DatabaseSync(path);
		const row = database.prepare("SELECT count(*) AS rows FROM orders").get();
		expect(row?.["rows"]).toBeLessThanOrEqual(3);
	});
});

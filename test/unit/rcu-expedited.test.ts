import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { findProcessIdentity, type ProcessIdentity } from "../../platform/linux/process-identity.ts";
import { expedite, isExpedited, restoreExpedited } from "../../platform/linux/rcu-expedited.ts";

/** The kernel's switch is the whole machine's: a file stands for it here. */
describe("rcu_expedited", () => {
	let dir: string;
	let folder: string;
	let path: string;
	const self = findProcessIdentity(process.pid) as ProcessIdentity;
	/** This pid, of an earlier process. */
	const dead: ProcessIdentity = { pid: process.pid, startTime: "1" };
	const markers = () => readdirSync(folder);
	const value = () => readFileSync(path, "utf8").trim();

	beforeEach(() => {
		dir = mkdtempSync(join(tmpdir(), "stillpoint-test-rcu-"));
		folder = join(dir, "freezes");
		path = join(dir, "switch");
		mkdirSync(folder);
		writeFileSync(path, "0\n");
	});
	afterEach(() => rmSync(dir, { recursive: true, force: true }));

	it("a switch that is not there, or can't be written, is left alone and leaves no marker", () => {
		rmSync(path);
		expect(expedite(folder, self, path)).toBeUndefined();
		expect(isExpedited(path)).toBe(false);
		mkdirSync(path);
		expect(expedite(folder, self, path)).toBeUndefined();
		expect(markers()).toEqual([]);
	});

	it("without a marker it is not switched on", () => {
		rmSync(folder, { recursive: true });
		expect(expedite(folder, self, path)).toBeUndefined();
		expect(value()).toBe("0");
	});

	it.each(["1", "2"])("switched on (%s) by somebody else, it stays so", (before) => {
		writeFileSync(path, `${before}\n`);
		expect(expedite(folder, self, path)).toBeUndefined();
		expect(isExpedited(path)).toBe(true);
		expect(restoreExpedited(folder, path)).toBe("nothing");
		expect(value()).toBe(before);
	});

	it("it is on with a marker, and put back once", () => {
		const putBack = expedite(folder, self, path);
		expect([value(), markers()]).toEqual(["1", [`rcu-expedited.${self.pid}.${self.startTime}`]]);
		expect(isExpedited(path)).toBe(true);
		expect(restoreExpedited(folder, path)).toBe("in-use");
		expect(value()).toBe("1");
		putBack?.();
		expect([value(), markers()]).toEqual(["0", []]);
		writeFileSync(path, "1");
		putBack?.();
		expect(value()).toBe("1");
	});

	it("what a killed process left on is restored, by a marker that nobody can read too", () => {
		for (const leave of [
			() => expedite(folder, dead, path),
			() => writeFileSync(join(folder, "rcu-expedited"), "?"),
			() => writeFileSync(join(folder, "rcu-expedited.x.y"), ""),
		]) {
			leave();
			writeFileSync(path, "1");
			expect(restoreExpedited(folder, path)).toBe("restored");
			expect([value(), markers()]).toEqual(["0", []]);
			expect(restoreExpedited(folder, path)).toBe("nothing");
		}
	});

	it("what can't be restored keeps its marker", () => {
		expedite(folder, dead, path);
		rmSync(path);
		mkdirSync(path);
		expect(restoreExpedited(folder, path)).toBe("failed");
		expect(markers()).toHaveLength(1);
	});

	it("a killed process's switch is taken over, and then put back for both", () => {
		expedite(folder, dead, path);
		const putBack = expedite(folder, self, path);
		expect(restoreExpedited(folder, path)).toBe("in-use");
		putBack?.();
		expect(value()).toBe("0");
		expect(restoreExpedited(folder, path)).toBe("restored");
		expect(markers()).toEqual([]);
	});

	it("two holds at once, of one run folder or of two, end with it off", () => {
		const other = join(dir, "other");
		mkdirSync(other);
		for (const where of [folder, other]) {
			for (const order of [
				[0, 1],
				[1, 0],
			]) {
				const both = [expedite(folder, self, path), expedite(where, { ...self, startTime: "7" }, path)];
				for (const one of order) both[one]?.();
				expect([value(), markers(), readdirSync(other)]).toEqual(["0", [], []]);
			}
		}
	});
});

import { describe, expect, test } from "vitest";
import type { ExtensionCommand } from "../../contracts/extension.ts";
import { CommandInbox } from "../../extensions/kit/command-inbox.ts";
import { findThawable, type LetGoPlan, takesDisksApart } from "../../extensions/vm-snapshot-linux/taken-disks.ts";

/** vda: root and the carrier of an image; the image (loop0) carries another file system; vdb: data; 0:40: both disks. */
const plan: LetGoPlan = {
	fileSystems: [
		{ superblock: "7:0", disks: ["vda", "loop0"] },
		{ superblock: "8:1", disks: ["vda"] },
		{ superblock: "8:17", disks: ["vdb"] },
		{ superblock: "0:40", disks: ["vda", "vdb"] },
	],
	disks: [
		{ name: "vda", included: true, superblocks: ["7:0", "8:1", "0:40"] },
		{ name: "vdb", included: true, superblocks: ["8:17", "0:40"] },
		{ name: "loop0", included: true, superblocks: ["7:0"] },
		{ name: "vdz", included: false, superblocks: [] },
	],
	uncovered: [],
	below: new Map([
		["7:0", ["8:1"]],
		["8:1", []],
		["8:17", []],
		["0:40", []],
	]),
};

function thawable(taken: string[], more: Partial<LetGoPlan> = {}, letGo: string[] = []): string[] {
	return findThawable({ ...plan, ...more }, new Set(taken), new Set(letGo)).sort();
}

describe("what may be thawed while other disks are still taken", () => {
	test("nothing before the first disk is taken, and nothing for a disk that the job does not have", () => {
		expect(thawable([])).toEqual([]);
		expect(thawable(["vdq"])).toEqual([]);
		expect(thawable(["vdz"])).toEqual([]);
	});

	test("what lies on that disk alone", () => {
		expect(thawable(["vdb"])).toEqual(["8:17"]);
		expect(thawable(["vda"])).toEqual(["8:1"]);
	});

	test("a file system on two disks waits for both", () => {
		expect(thawable(["vda", "vdb"])).toEqual(["0:40", "8:1", "8:17"]);
	});

	test("each once", () => {
		expect(thawable(["vda", "vdb"], {}, ["8:17"])).toEqual(["0:40", "8:1"]);
		expect(thawable(["vda", "vdb", "loop0"], {}, ["8:17", "8:1"])).toEqual(["0:40", "7:0"]);
	});

	test("an upper layer never before the one that it stores on", () => {
		const apart = plan.fileSystems.map((one) => (one.superblock === "7:0" ? { ...one, disks: ["loop0"] } : one));
		expect(thawable(["loop0"], { fileSystems: apart })).toEqual([]);
		expect(thawable(["loop0", "vda"], { fileSystems: apart })).toEqual(["7:0", "8:1"]);
	});

	test("nothing while a disk is still to be taken on which something may be written", () => {
		const uncovered = [{ disks: ["vdb"] }];
		expect(thawable(["vda"], { uncovered })).toEqual([]);
		expect(thawable(["vdb"], { uncovered })).toEqual(["8:17"]);
		const bare = [...plan.disks, { name: "vdc", included: true, superblocks: [] }];
		expect(thawable(["vda"], { disks: bare })).toEqual([]);
		expect(thawable(["vda", "vdc"], { disks: bare })).toEqual(["8:1"]);
	});

	test("nothing that is known to lie on no disk of the job", () => {
		const nowhere = [{ superblock: "9:9", disks: [] }];
		expect(thawable(["vda", "vdb", "loop0"], { fileSystems: nowhere })).toEqual([]);
	});
});

test("an asker is told to speak of single disks only where there are several", () => {
	const disks = (...included: boolean[]) => ({ disks: included.map((one) => ({ included: one })) }) as never;
	expect(takesDisksApart(disks(true, true))).toBe(true);
	expect(takesDisksApart(disks(true, false))).toBe(false);
	expect(takesDisksApart(undefined)).toBe(false);
});

describe("the inbox of commands", () => {
	const signal = new AbortController().signal;
	const taken = (name: string): ExtensionCommand => ({ type: "taken", jobId: "j", disk: { name, ok: true } });
	const done: ExtensionCommand = { type: "done", jobId: "j", disks: [] };

	test("gives every taken once and in order, and what came after them last", async () => {
		const inbox = new CommandInbox();
		for (const one of [taken("a"), taken("b"), done, taken("c")]) inbox.push(one);
		const got = [];
		for (let count = 0; count < 4; count += 1) got.push(await inbox.wait(["taken", "done"], signal));
		expect(got).toEqual([taken("a"), taken("b"), taken("c"), done]);
	});

	test("loses none that come in one turn while somebody waits", async () => {
		const inbox = new CommandInbox();
		const first = inbox.wait(["taken", "done"], signal);
		for (const one of [taken("a"), taken("b"), done]) inbox.push(one);
		expect(await first).toEqual(taken("a"));
		expect(await inbox.wait(["taken", "done"], signal)).toEqual(taken("b"));
		expect(await inbox.wait(["taken", "done"], signal)).toEqual(done);
	});

	test("does not give a taken to who waits for something else", async () => {
		const inbox = new CommandInbox();
		const waiting = inbox.wait(["done"], signal);
		inbox.push(taken("a"));
		inbox.push(done);
		expect(await waiting).toEqual(done);
		expect(inbox.drainTaken()).toEqual([taken("a")]);
		expect(inbox.drainTaken()).toEqual([]);
	});

	test("keeps no more than an honest host could send", () => {
		const inbox = new CommandInbox();
		for (let count = 0; count < 3_000; count += 1) inbox.push(taken("a"));
		expect(inbox.drainTaken()).toHaveLength(1024);
	});

	test("an aborted wait takes nothing away", async () => {
		const inbox = new CommandInbox();
		const ending = new AbortController();
		const waiting = inbox.wait(["taken"], ending.signal);
		ending.abort(new Error("over"));
		inbox.push(taken("a"));
		await expect(waiting).rejects.toThrow("over");
		expect(inbox.drainTaken()).toEqual([taken("a")]);
	});
});

import { describe, expect, it } from "vitest";
import { freezeResults, freezerCommandSchema, mayBeOurs } from "../../contracts/freezer-protocol.ts";
import { mayBeFrozenByUs } from "../../platform/linux/freeze-states.ts";
import { createLineSplitter, parseFreezerCommand } from "../../platform/linux/freezer/command-lines.ts";

const target = {
	superblock: "7:0",
	mountPoint: "/a",
	openPath: "/a",
	fsType: "ext4",
	level: 0,
	dev: "1792",
	ino: "2",
};
const targets = { type: "targets", jobId: "j", ledgerPath: "/run/l", bootId: "b", targets: [target] };
const freeze = { type: "freeze", holdLimitMs: 1000, freezeLimitMs: 500, expedited: true };

const wellFormed: unknown[] = [
	targets,
	freeze,
	{ type: "thaw" },
	{ ...targets, targets: Array(500).fill(target) },
	{ ...targets, jobId: "" },
];
const malformed: unknown[] = [
	null,
	0,
	"thaw",
	[],
	{},
	{ type: "melt" },
	{ type: "thaw", more: 1 },
	{ ...freeze, holdLimitMs: 0 },
	{ ...freeze, holdLimitMs: -1 },
	{ ...freeze, holdLimitMs: 1.5 },
	{ ...freeze, holdLimitMs: "1000" },
	{ ...freeze, holdLimitMs: null },
	{ ...freeze, holdLimitMs: 2 ** 60 },
	{ type: "freeze", holdLimitMs: 1 },
	{ ...freeze, more: 1 },
	{ ...targets, targets: [] },
	{ ...targets, targets: Array(501).fill(target) },
	{ ...targets, targets: { 0: target } },
	{ ...targets, targets: [null] },
	{ ...targets, targets: [{ ...target, superblock: "7" }] },
	{ ...targets, targets: [{ ...target, superblock: "7:0\n" }] },
	{ ...targets, targets: [{ ...target, level: -1 }] },
	{ ...targets, targets: [{ ...target, ino: 2 }] },
	{ ...targets, targets: [{ ...target, more: 1 }] },
	{ ...targets, jobId: 1 },
	...Object.keys(targets).map((key) => Object.fromEntries(Object.entries(targets).filter(([name]) => name !== key))),
	...Object.keys(target).map((key) => ({
		...targets,
		targets: [Object.fromEntries(Object.entries(target).filter(([name]) => name !== key))],
	})),
];

describe("the freezer's own reading of its commands", () => {
	it.each(malformed.map((value) => JSON.stringify(value).slice(0, 90)))("refuses %s, as the schema does", (text) => {
		const value = malformed.find((one) => JSON.stringify(one).slice(0, 90) === text);
		expect(freezerCommandSchema.safeParse(value).success).toBe(false);
		expect(() => parseFreezerCommand(JSON.stringify(value))).toThrow(
			expect.objectContaining({ code: "message-invalid" }),
		);
	});

	it("takes all that the schema takes, as it is", () => {
		for (const value of wellFormed)
			expect(parseFreezerCommand(JSON.stringify(value))).toEqual(freezerCommandSchema.parse(value));
	});

	it.each(["", "{", "\0", '{"type":"thaw"} x'])("refuses the text %j", (text) => {
		expect(() => parseFreezerCommand(text)).toThrow(expect.objectContaining({ code: "message-invalid" }));
	});

	it("knows the same states as the contract for what may be ours", () => {
		for (const state of freezeResults) expect(mayBeFrozenByUs(state)).toBe(mayBeOurs(state));
	});
});

describe("cutting a stream into lines", () => {
	it("gives the same lines however the bytes come", () => {
		const bytes = Buffer.from('{"a":"ä€"}\n\nlast\nrest');
		for (let size = 1; size <= bytes.length; size += 1) {
			const splitter = createLineSplitter(1000);
			const lines: string[] = [];
			for (let at = 0; at < bytes.length; at += size) lines.push(...splitter.push(bytes.subarray(at, at + size)));
			expect(lines).toEqual(['{"a":"ä€"}', "", "last"]);
		}
	});

	it("a line that never ends is refused at its limit, and not kept", () => {
		const splitter = createLineSplitter(10);
		expect(splitter.push(Buffer.from("0123456789\n"))).toEqual(["0123456789"]);
		expect(() => splitter.push(Buffer.from("01234567890"))).toThrow(
			expect.objectContaining({ code: "message-too-large" }),
		);
	});
});

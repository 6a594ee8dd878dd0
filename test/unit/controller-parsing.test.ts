import { describe, expect, test } from "vitest";
import { errorCodes } from "../../contracts/errors.ts";
import { checkMappings, mapDisks } from "../../controller/disk-mapping.ts";
import { fitsHold, holdMarginMs, takeMarginMs } from "../../controller/hold-margin.ts";
import { httpStatusOf } from "../../controller/http-status.ts";
import { chooseSample } from "../../controller/providers/image-files/copy-method.ts";
import { splitExtents } from "../../controller/providers/image-files/data-extents.ts";
import { predictCopyMs } from "../../controller/providers/image-files/predict-copy.ts";
import { findNonZero } from "../../controller/providers/image-files/sparse-copy.ts";
import { formatToken, hashSecret, makeToken, parseToken } from "../../controller/tokens.ts";

const fingerprint = "ab".repeat(32);

describe("enrolment tokens", () => {
	const token = makeToken(fingerprint);
	const text = formatToken(token);

	test("a token is read back as it was made", () => {
		expect(parseToken(text)).toEqual(token);
		expect(hashSecret(token)).not.toContain(token.secret);
	});

	test.each([
		["nothing", ""],
		["another version", text.replace("stillpoint1", "stillpoint2")],
		["no fingerprint", text.split(".").slice(0, 3).join(".")],
		["one part more", `${text}.x`],
		["a newline behind", `${text}\n`],
		["a short secret", text.replace(token.secret, token.secret.slice(1))],
		["an id in capitals", text.replace(token.id, token.id.toUpperCase().padEnd(16, "A").replace(/^./, "F"))],
	])("%s is no token", (_, broken) => {
		expect(parseToken(broken)).toBeUndefined();
	});
});

describe("disk mappings", () => {
	const planned = [
		{ name: "vda", serial: "S1", sizeBytes: 1, fileSystemUuids: [] },
		{ name: "vdb", sizeBytes: 1, fileSystemUuids: [] },
	];

	test("an image is found by kernel name or by serial", () => {
		const mappings = [
			{ name: "serial:S1", image: "/a" },
			{ name: "vdb", image: "/b" },
		];
		expect(mapDisks(planned, mappings)).toEqual([
			{ name: "vda", image: "/a" },
			{ name: "vdb", image: "/b" },
		]);
	});

	test("every disk without an image is named", () => {
		expect(() => mapDisks(planned, [])).toThrow(
			expect.objectContaining({ code: "disk-not-mapped", details: { disks: ["vda", "vdb"] } }),
		);
		expect(() => mapDisks([], [])).toThrow(expect.objectContaining({ code: "disk-not-mapped" }));
	});

	test("a disk or an image that is named twice is refused, with the field", () => {
		const once = { name: "vda", image: "/a" };
		expect(() => checkMappings([once, { name: "vdb", image: "/b" }])).not.toThrow();
		expect(() => checkMappings([once, { name: "vda", image: "/b" }])).toThrow(/disks\.1\.name/);
		expect(() => checkMappings([once, { name: "vdb", image: "/a" }])).toThrow(/disks\.1\.image/);
	});
});

describe("predicting a copy", () => {
	const mib = 1024 * 1024;
	const sample = { bytes: 8 * mib, acceptedMs: 8, writtenMs: 80 };

	test("nothing to copy takes next to no time", () => {
		expect(predictCopyMs(0, sample)).toBeLessThan(50);
	});

	test("what the cache does not hold goes at the rate of the storage", () => {
		expect(predictCopyMs(100 * mib, sample)).toBe(15 + 2 * 100);
		expect(predictCopyMs(1256 * mib, sample)).toBe(15 + 2 * (256 + 10_000));
	});

	test("earlier copies of like size count more than a sample, the slowest of them most, a small one not at all", () => {
		const slow = { bytes: 90 * mib, copyMs: 360 };
		const quick = { bytes: 90 * mib, copyMs: 9 };
		expect(predictCopyMs(90 * mib, sample, [quick])).toBeCloseTo(15 + 1.3 * 9);
		expect(predictCopyMs(90 * mib, sample, [quick, slow])).toBeCloseTo(15 + 1.3 * 360);
		expect(predictCopyMs(1000 * mib, sample, [slow])).toBe(predictCopyMs(1000 * mib, sample));
	});

	test("one very slow copy does not refuse all later ones", () => {
		const stuck = { bytes: 90 * mib, copyMs: 900_000 };
		expect(predictCopyMs(90 * mib, sample, [stuck])).toBe(15 + 3 * 2 * 90);
	});

	test("a hold keeps a margin for freezing and thawing", () => {
		expect(holdMarginMs(10_000)).toBe(2_000);
		expect(fitsHold(8_000, 10_000)).toBe(true);
		expect(fitsHold(8_001, 10_000)).toBe(false);
		expect(takeMarginMs(100)).toBe(20);
		expect(takeMarginMs(900_000)).toBe(1_000);
	});
});

describe("pieces of an image", () => {
	test("a sample takes a few long extents, or many short ones, and always some", () => {
		const extentsOf = (count: number, length: number) =>
			Array.from({ length: count }, (_, index) => ({ offset: index * 2 * length, length }));
		const bytesOf = (sample: { length: number }[]) => sample.reduce((sum, one) => sum + one.length, 0);
		expect(chooseSample(extentsOf(1, 1 << 30))).toHaveLength(4);
		expect(chooseSample(extentsOf(100, 1 << 26))).toHaveLength(4);
		expect(chooseSample(extentsOf(60_000, 4096))).toHaveLength(256);
		expect(chooseSample(extentsOf(3, 4096))).toEqual(extentsOf(3, 4096));
		expect(chooseSample([])).toEqual([]);
		for (const sample of [chooseSample(extentsOf(1, 5 << 20)), chooseSample(extentsOf(2, 1 << 30))]) {
			expect(bytesOf(sample)).toBeGreaterThan(0);
			expect(bytesOf(sample)).toBeLessThanOrEqual(8 << 20);
		}
		expect(chooseSample(extentsOf(60_000, 4096)).at(-1)?.offset).toBeGreaterThan(50_000 * 8192);
	});

	test("extents are cut into pieces that cover them exactly", () => {
		const pieces = [
			...splitExtents(
				[
					{ offset: 10, length: 25 },
					{ offset: 100, length: 10 },
				],
				10,
			),
		];
		expect(pieces).toEqual([
			{ offset: 10, length: 10 },
			{ offset: 20, length: 10 },
			{ offset: 30, length: 5 },
			{ offset: 100, length: 10 },
		]);
	});

	test("runs of zeros are left out, and one byte keeps its block", () => {
		const data = Buffer.alloc(256 * 1024 + 100);
		expect([...findNonZero(data)]).toEqual([]);
		data[70_000] = 1;
		data[data.length - 1] = 1;
		expect([...findNonZero(data)]).toEqual([
			{ offset: 64 * 1024, length: 64 * 1024 },
			{ offset: 256 * 1024, length: 100 },
		]);
	});
});

test("every code has an HTTP status that is an error", () => {
	for (const code of errorCodes) expect(httpStatusOf(code)).toBeGreaterThanOrEqual(400);
	expect(httpStatusOf("order-invalid")).toBe(400);
	expect(httpStatusOf("internal")).toBe(500);
});

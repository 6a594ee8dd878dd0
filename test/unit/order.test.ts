import { describe, expect, test } from "vitest";
import { orderSchema } from "../../contracts/order.ts";

const good = { jobId: "job-1", level: "application", acceptLevel: "crash", disks: "all" };
const names = (count: number) => Array.from({ length: count }, (_, index) => `vd${index}`);

describe("an order", () => {
	test("with the least that it needs gets the defaults", () => {
		expect(orderSchema.parse(good)).toEqual({
			...good,
			startWithinMs: 60_000,
			holdLimitMs: 10_000,
			prepareLimitMs: 120_000,
			snapshot: "reported",
		});
	});

	test.each([
		["an id of 64 characters", { jobId: "x".repeat(64) }],
		["an id with dots and dashes", { jobId: "0a.b_c-d" }],
		["256 disks", { disks: { include: names(256) } }],
		["disks left out", { disks: { exclude: ["serial:a b"] } }],
		["the least limits", { startWithinMs: 0, holdLimitMs: 100, prepareLimitMs: 1_000 }],
		["the greatest limits", { startWithinMs: 3_600_000, holdLimitMs: 900_000, prepareLimitMs: 3_600_000 }],
		["level and acceptLevel alike", { level: "crash", acceptLevel: "crash" }],
	])("with %s is understood", (_what, change) => {
		expect(orderSchema.parse({ ...good, ...change })).toMatchObject(change);
	});

	const limits = ["startWithinMs", "holdLimitMs", "prepareLimitMs"] as const;
	const badLimits: readonly (readonly [string, unknown])[] = [
		["below zero", -1],
		["NaN", Number.NaN],
		["without end", Number.POSITIVE_INFINITY],
		["with a fraction", 1_000.5],
		["beyond the greatest", 3_600_001],
		["beyond whole numbers", 2 ** 53],
		["a text", "1000"],
		["null", null],
		["a list", [1_000]],
	];

	test.each<[string, Record<string, unknown>, string]>([
		["no id", { jobId: undefined }, "jobId"],
		["an empty id", { jobId: "" }, "jobId"],
		["an id of 65 characters", { jobId: "x".repeat(65) }, "jobId"],
		["an id with a slash", { jobId: "a/b" }, "jobId"],
		["an id that leads upwards", { jobId: "../a" }, "jobId"],
		["an id with a leading dot", { jobId: ".a" }, "jobId"],
		["an id with a leading dash", { jobId: "-a" }, "jobId"],
		["an id with a NUL", { jobId: "a\0b" }, "jobId"],
		["an id with a line end", { jobId: "a\n" }, "jobId"],
		["an id with a letter beyond ASCII", { jobId: "j\u00f6b" }, "jobId"],
		["a number for an id", { jobId: 7 }, "jobId"],
		["no level", { level: undefined }, "level"],
		["level none", { level: "none", acceptLevel: "none" }, "level"],
		["an unknown level", { level: "APPLICATION" }, "level"],
		["no acceptLevel", { acceptLevel: undefined }, "acceptLevel"],
		["file-system for crash", { level: "crash", acceptLevel: "file-system" }, "acceptLevel"],
		["application for crash", { level: "crash", acceptLevel: "application" }, "acceptLevel"],
		["application for file-system", { level: "file-system", acceptLevel: "application" }, "acceptLevel"],
		["no disks", { disks: undefined }, "disks"],
		["another word for all", { disks: "ALL" }, "disks"],
		["disks as a list", { disks: ["vda"] }, "disks"],
		["disks of nothing", { disks: {} }, "disks"],
		["none included", { disks: { include: [] } }, "disks"],
		["none left out", { disks: { exclude: [] } }, "disks"],
		["included and left out", { disks: { include: ["vda"], exclude: ["vdb"] } }, "disks"],
		["257 disks", { disks: { include: names(257) } }, "disks"],
		["a disk without a name", { disks: { include: [""] } }, "disks"],
		["a disk with a very long name", { disks: { include: ["x".repeat(129)] } }, "disks"],
		["a disk that is no text", { disks: { include: [3] } }, "disks"],
		["an unknown key in disks", { disks: { include: ["vda"], all: true } }, "disks"],
		["another word for snapshot", { snapshot: "yes" }, "snapshot"],
		["a hold of 99 ms", { holdLimitMs: 99 }, "holdLimitMs"],
		["a hold of more than 15 minutes", { holdLimitMs: 900_001 }, "holdLimitMs"],
		["a preparation of 999 ms", { prepareLimitMs: 999 }, "prepareLimitMs"],
		...limits.flatMap((limit) =>
			badLimits.map(([what, value]): [string, Record<string, unknown>, string] => [
				`a ${limit} ${what}`,
				{ [limit]: value },
				limit,
			]),
		),
	])("with %s is refused, naming the field", (_what, change, field) => {
		const found = orderSchema.safeParse({ ...good, ...change });
		expect(found.success).toBe(false);
		expect(found.error?.issues.map((issue) => issue.path[0])).toContain(field);
	});

	test.each([
		["an unknown key", { ...good, command: "rm" }],
		["a key of the language", JSON.parse(`{"__proto__":{"level":"crash"},${JSON.stringify(good).slice(1)}`)],
		["null", null],
		["a list", [good]],
		["a text", JSON.stringify(good)],
		["nothing", undefined],
	])("that is or has %s is refused", (_what, order) => {
		expect(orderSchema.safeParse(order).success).toBe(false);
	});
});

import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { makeBackOff } from "../../agent/link/back-off.ts";
import { fitReport } from "../../agent/link/fit-report.ts";
import { makeMisfitAllowance } from "../../agent/link/misfit-allowance.ts";
import { makeTicketFile } from "../../agent/link/ticket-file.ts";
import { makeWriteHold } from "../../agent/write-hold.ts";
import { reportSchema } from "../../contracts/report.ts";
import { makeFakeReport } from "../fakes/fake-report.ts";

describe("back-off", () => {
	test("a restart of the controller spreads its agents evenly over the first pause", () => {
		const pauses = Array.from({ length: 10_000 }, (_, index) => makeBackOff(() => index / 10_000).next());
		const tenths = Array.from(
			{ length: 10 },
			(_, tenth) => pauses.filter((ms) => Math.floor(ms / 200) === tenth).length,
		);
		expect(tenths).toEqual(Array(10).fill(1_000));
	});

	test("each failure doubles it up to a minute, with half of it by chance; a good connection begins anew", () => {
		const [least, most] = [makeBackOff(() => 0), makeBackOff(() => 1)];
		expect(Array.from({ length: 8 }, () => least.next())).toEqual([0, 2e3, 4e3, 8e3, 16e3, 30e3, 30e3, 30e3]);
		expect(Array.from({ length: 8 }, () => most.next())).toEqual([2e3, 4e3, 8e3, 16e3, 32e3, 60e3, 60e3, 60e3]);
		most.reset();
		expect(most.next()).toBe(2_000);
	});

	test("after a refusal about an hour passes", () => {
		expect(makeBackOff(() => 0).afterRefusal()).toBe(2_700_000);
		expect(makeBackOff(() => 1).afterRefusal()).toBe(4_500_000);
	});
});

describe("a report that is larger than a frame", () => {
	const order = { jobId: "large", level: "file-system", acceptLevel: "crash" } as const;
	const script = (outputTail: string) => ({
		name: "s",
		phase: "pre" as const,
		timedOut: false,
		durationMs: 1,
		outputTail,
	});
	const fileSystem = (index: number) => ({
		mountPoint: `/mnt/${index}`,
		device: "/dev/vda",
		superblock: "8:0",
		fsType: "ext4",
		disks: ["vda"],
		level: 0,
		result: "thawed" as const,
		frozenUntilSnapshotEnded: true,
	});

	test("one that fits is sent as it is", () => {
		const report = { ...makeFakeReport(order, "crash"), scripts: [script("x".repeat(500))] };
		expect(fitReport(report, 10_000)).toBe(report);
	});

	test("loses the output of scripts first, then rows, and never what it is worth", () => {
		const report = { ...makeFakeReport(order, "crash"), scripts: [script("x".repeat(20_000))] };
		expect(fitReport(report, 10_000)).toEqual({ ...report, scripts: [script("")] });
		const many = { ...report, fileSystems: Array.from({ length: 1_000 }, (_, index) => fileSystem(index)) as never };
		const cut = fitReport(many, 10_000);
		expect(JSON.stringify(cut).length).toBeLessThanOrEqual(10_000);
		expect(cut.fileSystems.length).toBeGreaterThan(0);
		expect(cut).toMatchObject({ jobId: "large", achieved: "crash", held: "crash" });
		expect(reportSchema.safeParse({ ...cut, fileSystems: [] }).success).toBe(true);
	});
});

test("nonsense is borne for a while, then no more, and a little of it again later", () => {
	const clock = { ms: 0 };
	const allowance = makeMisfitAllowance(() => clock.ms);
	expect(Array.from({ length: 101 }, () => allowance.take()).indexOf(false)).toBe(100);
	clock.ms += 2_000;
	expect([allowance.take(), allowance.take(), allowance.take()]).toEqual([true, true, false]);
});

describe("the ticket on disk", () => {
	let folder: string;
	beforeEach(() => {
		folder = mkdtempSync("/dev/shm/stillpoint-test-ticket-");
	});
	afterEach(() => rmSync(folder, { recursive: true, force: true }));

	test("is for one agent id, and survives", async () => {
		const hold = makeWriteHold();
		const tickets = makeTicketFile(folder, hold);
		expect(await tickets.find("a")).toBeUndefined();
		expect(await tickets.keep("a", "one")).toBe(true);
		expect(await makeTicketFile(folder, hold).find("a")).toBe("one");
		expect(await tickets.find("b")).toBeUndefined();
	});

	test("one that waits for the disk is dropped when the next hello shows the former", async () => {
		const hold = makeWriteHold();
		const tickets = makeTicketFile(folder, hold);
		await tickets.keep("a", "one");
		await hold.quiet(100);
		const late = tickets.keep("a", "two");
		expect(await tickets.find("a")).toBe("one");
		hold.release();
		expect(await late).toBe(false);
		expect(await tickets.find("a")).toBe("one");
	});

	test("a damaged one is named, and not taken for none", async () => {
		const tickets = makeTicketFile(folder, makeWriteHold());
		await tickets.keep("a", "one");
		writeFileSync(join(folder, "enrolment", "ticket.json"), "{");
		await expect(tickets.find("a")).rejects.toMatchObject({ code: "state-unusable" });
	});
});

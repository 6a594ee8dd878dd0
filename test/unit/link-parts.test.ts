import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { makeBackOff } from "../../agent/link/back-off.ts";
import { renewalDueMs } from "../../agent/link/certificate-renewal.ts";
import { checkCertificate, makeKeyAndRequest } from "../../agent/link/certificate-request.ts";
import { fitReport } from "../../agent/link/fit-report.ts";
import { makeMisfitAllowance } from "../../agent/link/misfit-allowance.ts";
import { makeTicketFile } from "../../agent/link/ticket-file.ts";
import { makeWriteHold } from "../../agent/write-hold.ts";
import { reportSchema } from "../../contracts/report.ts";
import { openCertificateAuthority } from "../../controller/certificate-authority.ts";
import { openSqliteStore } from "../../controller/sqlite-store.ts";
import { makeTicketSeal } from "../../controller/ticket-seal.ts";
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

describe("the renewal of a certificate", () => {
	test("is due at two thirds of the life, and before the end also when the clock was wrong as it came", async () => {
		const folder = mkdtempSync("/dev/shm/stillpoint-test-ca-");
		try {
			const dayMs = 86_400_000;
			const authority = await openCertificateAuthority(join(folder, "ca"), 90 * dayMs);
			const { key, csr } = await makeKeyAndRequest();
			const certificate = await authority.issueAgent("agent-1", csr);
			const dueInDays = (cameInDays: number) => {
				const came = new Date(Date.now() + cameInDays * dayMs).toISOString();
				const rest = { version: 1, agentId: "agent-1", controllerUrl: "https://c", key, ca: "", machine: {} } as const;
				return (renewalDueMs({ ...rest, certificate, enrolledAt: came, renewedAt: came }, 0.5) - Date.now()) / dayMs;
			};
			expect(Math.round(dueInDays(0))).toBe(60);
			for (const wrongByDays of [-3650, -1, 30, 89, 91, 3650]) {
				expect(dueInDays(wrongByDays), String(wrongByDays)).toBeGreaterThan(50);
				expect(dueInDays(wrongByDays), String(wrongByDays)).toBeLessThan(90);
			}
			// What comes must be for our key, our id and from the CA that is known.
			const own = { key, ca: authority.certificate, agentId: "agent-1" };
			checkCertificate(certificate, own);
			const other = await openCertificateAuthority(join(folder, "other"));
			for (const wrong of [
				{ ...own, agentId: "agent-2" },
				{ ...own, ca: other.certificate },
				{ ...own, key: (await makeKeyAndRequest()).key },
			])
				expect(() => checkCertificate(certificate, wrong)).toThrow(/the certificate that came/);
		} finally {
			rmSync(folder, { recursive: true, force: true });
		}
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

describe("a ticket of the controller", () => {
	const random = "r".repeat(32);
	const seal = makeTicketSeal(Buffer.alloc(32, 1));

	test("is good for its agent, made by this controller, and untouched", () => {
		const text = seal.format("agent-1", { counter: 12, random });
		expect(seal.parse("agent-1", text)).toEqual({ counter: 12, random });
		expect(text.length).toBeLessThanOrEqual(128);
		for (const [agentId, other] of [
			["agent-2", text],
			["agent-1", text.replace("12.", "13.")],
			["agent-1", text.replace("rrr", "sss")],
			["agent-1", makeTicketSeal(Buffer.alloc(32, 2)).format("agent-1", { counter: 12, random })],
			["agent-1", "12"],
			["agent-1", `${"9".repeat(30)}.${random}.${"x".repeat(43)}`],
		] as const)
			expect(seal.parse(agentId, other), other).toBeUndefined();
	});

	test("the last kept and the last given are known, an older one is changed, a newer one says that the store is older", async () => {
		const folder = mkdtempSync("/dev/shm/stillpoint-test-store-");
		try {
			await using store = openSqliteStore(join(folder, "a.sqlite"));
			const machine = { hostname: "h", platform: "linux" };
			await store.addAgent({ agentId: "a", machine, enrolledAt: new Date().toISOString(), disks: [] });
			const show = async (counter: number | undefined, next: string) =>
				await store.exchangeTicket("a", counter === undefined ? undefined : { counter, random }, next);
			expect(await show(undefined, random)).toEqual({ is: "known", counter: 1 });
			// Given and not confirmed; then neither again nor nothing is right.
			expect(await show(1, random)).toEqual({ is: "known", counter: 2 });
			expect(await show(1, random)).toEqual({ is: "known", counter: 3 });
			await store.confirmTicket("a", { counter: 3, random });
			expect(await show(1, random)).toEqual({ is: "changed" });
			expect(await show(undefined, random)).toEqual({ is: "changed" });
			expect(await store.exchangeTicket("a", { counter: 3, random: "other" }, random)).toEqual({ is: "changed" });
			expect(await show(7, "x")).toEqual({ is: "ahead", counter: 8 });
			// The one that was shown stays good until the next is confirmed, and what was good before is not.
			expect(await show(3, random)).toEqual({ is: "changed" });
			expect(await show(7, random)).toEqual({ is: "known", counter: 9 });
			expect(await store.exchangeTicket("b", { counter: 9, random }, random)).toEqual({ is: "changed" });
		} finally {
			rmSync(folder, { recursive: true, force: true });
		}
	});
});

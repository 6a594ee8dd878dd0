/** Either side is killed at every step of the exchange of a report, and of a ticket. */
import { X509Certificate } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { openJournal } from "../../agent/journal.ts";
import { findEnrolment, writeEnrolment } from "../../agent/link/enrolment-file.ts";
import { catchMessage, delayCalls, type LinkRig, lockJournal, type Side, startLinkRig } from "../fixtures/link-rig.ts";
import { poll } from "../fixtures/poll.ts";
import { requireTools } from "../fixtures/required-tools.ts";

const missing = requireTools("root", "strace");

/** Ends when the wanted side is dead at that step of a job's report, or of a new connection's ticket. */
type Kill = (rig: LinkRig, jobId: string) => Promise<Side>;
type Step = {
	readonly name: string;
	readonly kill: Kill;
	/** In the controller's database after the kill. */
	readonly stored?: 0 | 1;
};

function outboxOf(rig: LinkRig, jobId: string): number {
	using journal = openJournal(rig.journalPath);
	return journal.readOutbox().filter((one) => one.jobId === jobId).length;
}
const keptFile = (rig: LinkRig, jobId: string) => join(rig.folders.flags.runDir, "reports", `${jobId}.json`);

/** Kills when the message is at the relay; what is left of it is then passed on or lost. */
function killAt(side: Side, from: "agent" | "controller", type: string, fate: "pass" | "lose"): Kill {
	return async (rig) => {
		await catchMessage(rig.relay, from, type, async () => {
			await rig.kill(side);
			return fate;
		});
		return side;
	};
}

/** Stopped before the message comes, so that it lies in the socket unread. */
function killUnread(side: Side, from: "agent" | "controller", type: string): Kill {
	return async (rig) => {
		const { child } = side === "agent" ? rig.agent : rig.controller;
		await catchMessage(rig.relay, from, type, () => {
			child.kill("SIGSTOP");
			return "pass";
		});
		await new Promise((resolve) => setTimeout(resolve, 100));
		await rig.kill(side);
		return side;
	};
}

/** In the middle of the system call that follows the message, before or after it has its effect. */
function killInCall(
	side: Side,
	on: { from: "agent" | "controller"; type: string },
	call: string,
	where: "enter" | "exit",
): Kill {
	return async (rig) => {
		const { pid } = side === "agent" ? rig.agent : rig.controller;
		const resources = new AsyncDisposableStack();
		let lines: string[] = [];
		await catchMessage(rig.relay, on.from, on.type, async (): Promise<"pass"> => {
			await untilNothingIsWritten(pid);
			({ lines } = resources.use(await delayCalls(pid, call, where)));
			return "pass";
		});
		await poll(() => lines.some((line) => line.includes(`${call}(`))).toBe(true);
		if (where === "exit") await new Promise((resolve) => setTimeout(resolve, 100));
		// Dying first, then let go by strace: the other way round the call would go on.
		const killed = rig.kill(side);
		await resources.disposeAsync();
		await killed;
		return side;
	};
}

/** What it stores on account of earlier messages must not be taken for what it stores on account of this one. */
async function untilNothingIsWritten(pid: number): Promise<void> {
	const writtenBytes = () => /^write_bytes: (\d+)/m.exec(readFileSync(`/proc/${pid}/io`, "utf8"))?.[1];
	let before: string | undefined;
	while (before !== writtenBytes()) {
		before = writtenBytes();
		await new Promise((resolve) => setTimeout(resolve, 250));
	}
}

async function beforeReport(rig: LinkRig): Promise<Side> {
	return await killAt("agent", "controller", "done", "lose")(rig, "");
}

async function keptInRunFolder(rig: LinkRig, jobId: string): Promise<Side> {
	let lock: Disposable | undefined;
	await catchMessage(rig.relay, "controller", "done", () => {
		lock = lockJournal(rig.journalPath);
		return "pass";
	});
	await catchMessage(rig.relay, "agent", "report", async (): Promise<"lose"> => {
		expect(existsSync(keptFile(rig, jobId))).toBe(true);
		await rig.kill("agent");
		return "lose";
	});
	lock?.[Symbol.dispose]();
	expect(outboxOf(rig, jobId)).toBe(0);
	return "agent";
}

async function acknowledgedUnjournaled(rig: LinkRig, jobId: string): Promise<Side> {
	let lock: Disposable | undefined;
	await catchMessage(rig.relay, "controller", "done", () => {
		lock = lockJournal(rig.journalPath);
		return "pass";
	});
	await catchMessage(rig.relay, "controller", "ack", () => "pass");
	await poll(async () => (await rig.status()).link.unsentReports).toBe(0);
	expect(existsSync(keptFile(rig, jobId))).toBe(true);
	await rig.kill("agent");
	lock?.[Symbol.dispose]();
	return "agent";
}

async function journaledUnsent(rig: LinkRig, jobId: string): Promise<Side> {
	await catchMessage(rig.relay, "controller", "done", () => {
		rig.relay.closed = true;
		setTimeout(() => rig.relay.cut(), 50);
		return "pass";
	});
	// The report may have been sent on the connection that is cut; it is lost there.
	rig.relay.rule = ({ type }) => (type === "report" ? "lose" : "pass");
	await poll(() => outboxOf(rig, jobId)).toBe(1);
	await rig.kill("agent");
	rig.relay.rule = () => "pass";
	rig.relay.closed = false;
	return "agent";
}

async function ackUnjournaled(rig: LinkRig, jobId: string): Promise<Side> {
	let lock: Disposable | undefined;
	await catchMessage(rig.relay, "controller", "ack", async (): Promise<"pass"> => {
		await poll(() => outboxOf(rig, jobId)).toBe(1);
		lock = lockJournal(rig.journalPath);
		return "pass";
	});
	await poll(() => rig.folders.readLog()).toMatch(/an acknowledged report stays in the outbox/);
	await rig.kill("agent");
	lock?.[Symbol.dispose]();
	expect(outboxOf(rig, jobId)).toBe(1);
	return "agent";
}

function afterAck(side: Side): Kill {
	return async (rig, jobId) => {
		await catchMessage(rig.relay, "controller", "ack", () => "pass");
		await poll(() => outboxOf(rig, jobId)).toBe(0);
		await rig.kill(side);
		return side;
	};
}

const report = { from: "agent", type: "report" } as const;
const reportSteps: Step[] = [
	{ name: "agent, before its report is made", kill: beforeReport },
	{ name: "agent, report in the run folder, not journaled", kill: keptInRunFolder },
	{ name: "agent, report acknowledged before it was journaled", kill: acknowledgedUnjournaled },
	{ name: "agent, report journaled, not sent", kill: journaledUnsent },
	{ name: "agent, report in flight, then lost", kill: killAt("agent", "agent", "report", "lose") },
	{ name: "agent, report in flight, then delivered", kill: killAt("agent", "agent", "report", "pass") },
	{ name: "agent, ack in flight", kill: killAt("agent", "controller", "ack", "lose") },
	{ name: "agent, ack received, not read", kill: killUnread("agent", "controller", "ack") },
	{ name: "agent, ack read, not journaled", kill: ackUnjournaled },
	{ name: "agent, ack journaled", kill: afterAck("agent") },
	{ name: "controller, report in flight, then lost", kill: killAt("controller", "agent", "report", "lose"), stored: 0 },
	{ name: "controller, report received, not read", kill: killUnread("controller", "agent", "report"), stored: 0 },
	{ name: "controller, report being stored", kill: killInCall("controller", report, "fsync", "enter"), stored: 0 },
	{
		name: "controller, report stored, ack not sent",
		kill: killInCall("controller", report, "ftruncate", "exit"),
		stored: 1,
	},
	{ name: "controller, ack in flight, then lost", kill: killAt("controller", "controller", "ack", "lose"), stored: 1 },
	{
		name: "controller, ack in flight, then delivered",
		kill: killAt("controller", "controller", "ack", "pass"),
		stored: 1,
	},
	{ name: "controller, ack delivered", kill: afterAck("controller"), stored: 1 },
];

/** Each begins with a connection that is cut, so that the next one exchanges a ticket. */
const welcome = { from: "controller", type: "welcome" } as const;
const hello = { from: "agent", type: "hello" } as const;
const kept = { from: "agent", type: "ticket-kept" } as const;
const renewed = { from: "controller", type: "renewed" } as const;
const ticketSteps: Step[] = [
	{ name: "agent, hello in flight", kill: killAt("agent", "agent", "hello", "pass") },
	{ name: "controller, hello received, not read", kill: killUnread("controller", "agent", "hello") },
	{ name: "controller, ticket being stored", kill: killInCall("controller", hello, "fsync", "enter") },
	{ name: "controller, ticket stored, welcome not sent", kill: killInCall("controller", hello, "ftruncate", "exit") },
	{ name: "controller, welcome in flight, then lost", kill: killAt("controller", "controller", "welcome", "lose") },
	{ name: "agent, welcome in flight", kill: killAt("agent", "controller", "welcome", "lose") },
	{ name: "agent, ticket being kept", kill: killInCall("agent", welcome, "rename", "enter") },
	{ name: "agent, ticket kept, not said", kill: killInCall("agent", welcome, "rename", "exit") },
	{ name: "agent, ticket-kept in flight, then lost", kill: killAt("agent", "agent", "ticket-kept", "lose") },
	{ name: "agent, ticket-kept in flight, then delivered", kill: killAt("agent", "agent", "ticket-kept", "pass") },
	{ name: "controller, ticket-kept received, not read", kill: killUnread("controller", "agent", "ticket-kept") },
	{ name: "controller, ticket being confirmed", kill: killInCall("controller", kept, "fsync", "enter") },
	{ name: "controller, ticket confirmed", kill: killInCall("controller", kept, "ftruncate", "exit") },
];

/** Each begins with a connection that is cut and a certificate that is due. */
const renewalSteps: Step[] = [
	{ name: "agent, renew in flight, then lost", kill: killAt("agent", "agent", "renew", "lose") },
	{ name: "agent, renew in flight, then delivered", kill: killAt("agent", "agent", "renew", "pass") },
	{ name: "controller, renew received, not read", kill: killUnread("controller", "agent", "renew") },
	{ name: "controller, renewed in flight, then lost", kill: killAt("controller", "controller", "renewed", "lose") },
	{ name: "agent, renewed in flight", kill: killAt("agent", "controller", "renewed", "lose") },
	{ name: "agent, renewed received, not read", kill: killUnread("agent", "controller", "renewed") },
	{ name: "controller, gone before the new certificate was shown", kill: killBeforeProof },
	{ name: "agent, new file being written", kill: killInCall("agent", renewed, "rename", "enter") },
	{ name: "agent, new file written", kill: killInCall("agent", renewed, "rename", "exit") },
];

/** The agent has its new certificate and finds nobody to try it with. */
async function killBeforeProof(rig: LinkRig): Promise<Side> {
	await catchMessage(rig.relay, "controller", "renewed", async (): Promise<"pass"> => {
		rig.relay.closed = true;
		setTimeout(() => rig.relay.cut(), 100);
		return "pass";
	});
	await poll(async () => (await rig.status()).link.connected).toBe(false);
	await rig.kill("controller");
	rig.relay.closed = false;
	return "controller";
}

/** What is wrong after the step; an empty list proves it. */
async function runReportStep(rig: LinkRig, step: Step, jobId: string): Promise<string[]> {
	const faults: string[] = [];
	await rig.untilLinked();
	const killed = step.kill(rig, jobId);
	await rig.order(jobId);
	await killed;
	if (step.stored !== undefined && rig.countStored(jobId) !== step.stored)
		faults.push(`${rig.countStored(jobId)} stored at the kill`);
	await rig.restart();
	using client = await rig.client();
	await poll(async () => (await client.readJob(jobId)).report?.jobId, 30_000).toBe(jobId);
	await poll(async () => (await rig.status()).link.unsentReports, 30_000).toBe(0);
	await poll(() => outboxOf(rig, jobId)).toBe(0);
	await poll(async () => (await client.readJob(jobId)).state).toMatch(/done|failed/);
	const job = await client.readJob(jobId);
	const ownReport = await readOwnReport(rig, jobId);
	if (JSON.stringify(ownReport) !== JSON.stringify(job.report))
		faults.push("the reports of agent and controller differ");
	return faults;
}

async function readOwnReport(rig: LinkRig, jobId: string): Promise<unknown> {
	await using channel = await rig.agent.connect();
	return (await channel.call("job.report", { jobId })).report;
}

async function runTicketStep(rig: LinkRig, step: Step): Promise<string[]> {
	const killed = step.kill(rig, "");
	rig.relay.cut();
	await killed;
	await rig.restart();
	await poll(async () => (await rig.status()).link, 30_000).toMatchObject({ connected: true });
	await poll(() => rig.relay.seen.at(-1)).toMatch(/ticket-kept/);
	const log = rig.folders.readLog();
	return log.includes("identity-changed") ? ["the honest agent was taken for a copy"] : [];
}

async function runRenewalStep(rig: LinkRig, step: Step): Promise<string[]> {
	await rig.untilLinked();
	const { stateDir } = rig.folders.flags;
	const old = findEnrolment(stateDir);
	if (old === undefined) return ["not enrolled"];
	const from = new X509Certificate(old.certificate).validFromDate.getTime();
	// Due since long: it came when its backdated life began, and ends within minutes.
	const due = { ...old, renewedAt: new Date(from + 1_000).toISOString() };
	await writeEnrolment(stateDir, due);
	const killed = step.kill(rig, "");
	rig.relay.cut();
	await killed;
	await rig.restart();
	await poll(async () => (await rig.status()).link, 30_000).toMatchObject({ connected: true });
	await poll(() => findEnrolment(stateDir)?.certificate !== old.certificate, 30_000).toBe(true);
	// And the next connection is made with it.
	await rig.reload();
	await poll(async () => (await rig.status()).link, 30_000).toMatchObject({ connected: true });
	return rig.folders.readLog().includes("identity-changed") ? ["the honest agent was taken for a copy"] : [];
}

describe.skipIf(missing)(`killed at every step${missing ? `: ${missing}` : ""}`, () => {
	const rigs: LinkRig[] = [];
	beforeAll(async () => {
		rigs.push(...(await Promise.all([startLinkRig(), startLinkRig(), startLinkRig(), startLinkRig()])));
	});
	afterAll(async () => {
		await Promise.all(rigs.map((rig) => rig[Symbol.asyncDispose]()));
	});

	/** Side by side on the rigs; prints the table. */
	async function runAll(steps: readonly Step[], run: (rig: LinkRig, step: Step, index: number) => Promise<string[]>) {
		const queue = steps.map((step, index) => ({ step, index }));
		const rows: string[] = [];
		await Promise.all(
			rigs.map(async (rig) => {
				for (let next = queue.shift(); next !== undefined; next = queue.shift()) {
					const faults = await run(rig, next.step, next.index).catch((error: Error) => [error.message]);
					rows[next.index] =
						`${faults.length === 0 ? "ok  " : "BAD "} ${next.step.name} ${faults.join("; ")}`.trimEnd();
					if (faults.length > 0) await rig.restart().catch(() => undefined);
				}
			}),
		);
		process.stdout.write(`${rows.join("\n")}\n`);
		expect(rows.filter((row) => !row.startsWith("ok"))).toEqual([]);
		expect(rows).toHaveLength(steps.length);
	}

	test("of the exchange of a report: it is stored once, ends its job once, and leaves the outbox", async () => {
		await runAll(reportSteps, (rig, step, index) => runReportStep(rig, step, `good.step-${index}`));
		for (const rig of rigs) await rig.kill("controller");
		const counts = reportSteps.map((_, index) =>
			rigs.reduce((sum, rig) => sum + rig.countStored(`good.step-${index}`), 0),
		);
		expect(counts).toEqual(reportSteps.map(() => 1));
		await Promise.all(rigs.map((rig) => rig.restart()));
	}, 120_000);

	test("of the renewal of a certificate: the agent always has one that is let in, and a new one in the end", async () => {
		await Promise.all(rigs.map((rig) => rig.untilLinked()));
		await runAll(renewalSteps, (rig, step) => runRenewalStep(rig, step));
	}, 120_000);

	test("of the exchange of a ticket: the honest agent is never taken for a copy", async () => {
		await Promise.all(rigs.map((rig) => rig.untilLinked()));
		await runAll(ticketSteps, (rig, step) => runTicketStep(rig, step));
	}, 120_000);
});

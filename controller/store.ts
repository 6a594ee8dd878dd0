import type { z } from "zod";
import type { ControllerJob, diskMappingSchema, machineSchema } from "../contracts/controller-messages.ts";
import type { Report } from "../contracts/report.ts";
import type { Ticket } from "./ticket-seal.ts";

type Machine = z.infer<typeof machineSchema>;
export type DiskMapping = z.infer<typeof diskMappingSchema>;

export type StoredAgent = {
	readonly agentId: string;
	readonly machine: Machine;
	readonly enrolledAt: string;
	readonly lastSeenAt?: string;
	readonly disks: readonly DiskMapping[];
	/** Its certificates are refused from then on. */
	readonly revoked?: { readonly at: string; readonly reason: string };
};

/** A person or program that uses the API. The name stands in its certificate (CN), the role too (OU). */
export type StoredCredential = {
	readonly name: string;
	readonly role: "operator" | "viewer";
	/** Of the one certificate that is good; hex, lower case. An earlier one of the same name is not. */
	readonly serial: string;
	readonly createdAt: string;
	readonly expiresAt: string;
	readonly revokedAt?: string;
};

/** A machine that wants to be enrolled and says why: a copy of one that was, or one whose certificate is no longer good. */
export type StoredEnrolmentRequest = {
	readonly id: string;
	readonly at: string;
	readonly address: string;
	readonly machine: Machine;
	readonly formerAgentId?: string;
	readonly reason: string;
};

/** Who did what, when, and how it ended. Never removed; changed once, when what it tells of has ended. */
export type StoredAuditEntry = {
	readonly sequence: number;
	readonly at: string;
	readonly actor: string;
	readonly role: string;
	/** Of the certificate that was shown; hex. */
	readonly serial?: string;
	readonly address: string;
	readonly action: string;
	readonly target?: string;
	/** `begun`, `ok`, or a code of the catalogue. */
	readonly outcome: string;
	readonly details?: Record<string, unknown>;
};
export type AuditFilter = {
	readonly limit: number;
	/** Only entries with a smaller sequence number. */
	readonly before?: number;
	readonly actor?: string;
	readonly target?: string;
	readonly action?: string;
	readonly outcome?: string;
};

/**
 * `known`: the ticket was the last one given. `ahead`: it is newer than any that was given as far as is known here, so
 * this store was put back to an earlier time. `changed`: the agent's state is a copy, or was put back. `counter` is that
 * of the next ticket.
 */
export type TicketAnswer =
	| { readonly is: "known" | "ahead"; readonly counter: number }
	| { readonly is: "changed"; readonly counter?: never };

type StoredToken = { readonly id: string; readonly secretHash: string; readonly expiresAt: string };

/** What a job keeps besides what it shows. */
export type StoredJob = {
	readonly job: Omit<ControllerJob, "report">;
	/** The body that ordered it, as canonical JSON: tells a repetition from a conflict. */
	readonly request: string;
	/** Ids under which the agent ran it: its own, and that of a second order at level crash. */
	readonly agentJobIds: readonly string[];
};

export type RecoveryPointRow = {
	readonly id: string;
	readonly agentId: string;
	readonly jobId: string;
	readonly createdAt: string;
};

/**
 * All that the controller remembers, except images and manifests. Asynchronous, so that it may live in another
 * process or machine. Each call is one transaction: when it has answered, a power cut does not lose it.
 */
export type Store = AsyncDisposable & {
	addToken(token: StoredToken): Promise<void>;
	/** Whether it could be used now; uses nothing. */
	isTokenUsable(token: Omit<StoredToken, "expiresAt">, now: string): Promise<boolean>;
	/** True for exactly one caller, in time and with the right hash. */
	useToken(token: Omit<StoredToken, "expiresAt">, now: string): Promise<boolean>;

	addAgent(agent: StoredAgent): Promise<void>;
	findAgent(agentId: string): Promise<StoredAgent | undefined>;
	listAgents(): Promise<StoredAgent[]>;
	/** False when there is no such agent. */
	setDisks(agentId: string, disks: readonly DiskMapping[]): Promise<boolean>;
	setSeen(agentId: string, at: string, machine?: Machine): Promise<void>;
	/** False when there is no such agent. */
	revokeAgent(agentId: string, at: string, reason: string): Promise<boolean>;
	/** Its jobs, reports and recovery points stay. False when there is no such agent. */
	removeAgent(agentId: string): Promise<boolean>;
	/**
	 * Each connection shows the ticket of the one before and is given the next. The agent's last confirmed ticket and the
	 * one that was given since are both good, because either side may die between giving and keeping; and one with a
	 * higher counter than all is. Any other is `changed`, and nothing is written. An agent that was never given one is
	 * `known`, whatever it shows.
	 * @param shown only what was proved to have been made here for this agent.
	 */
	exchangeTicket(agentId: string, shown: Ticket | undefined, nextRandom: string): Promise<TicketAnswer>;
	/** The agent has kept it: the one before is no longer good. */
	confirmTicket(agentId: string, ticket: Ticket): Promise<void>;

	/** The newest few are kept: anybody may ask. One of the same machine replaces its earlier one. */
	addEnrolmentRequest(request: StoredEnrolmentRequest): Promise<void>;
	listEnrolmentRequests(): Promise<StoredEnrolmentRequest[]>;
	/** False when there is none. */
	removeEnrolmentRequest(id: string): Promise<boolean>;

	/** Replaces one of the same name unless that is in force; then false. */
	addCredential(credential: StoredCredential, now: string): Promise<boolean>;
	/** Whatever there was of the name. */
	replaceCredential(credential: StoredCredential): Promise<void>;
	findCredential(name: string): Promise<StoredCredential | undefined>;
	listCredentials(): Promise<StoredCredential[]>;
	/** False when there is none in force. */
	revokeCredential(name: string, at: string): Promise<boolean>;

	/** Answers with its sequence number. */
	addAuditEntry(entry: Omit<StoredAuditEntry, "sequence">): Promise<number>;
	/** How an entry that was `begun` ended. */
	settleAuditEntry(sequence: number, end: Pick<StoredAuditEntry, "outcome" | "target" | "details">): Promise<void>;
	/** Newest first. */
	listAudit(filter: AuditFilter): Promise<StoredAuditEntry[]>;

	/** False when the id exists already. */
	addJob(job: StoredJob): Promise<boolean>;
	/** Replaces what is kept of the job, and adds its recovery point in the same transaction. */
	saveJob(job: StoredJob, recoveryPoint?: RecoveryPointRow): Promise<void>;
	findJob(jobId: string): Promise<StoredJob | undefined>;
	/** The job that the agent knows by this id. */
	findJobOfAgent(agentId: string, agentJobId: string): Promise<StoredJob | undefined>;
	/** Newest first. */
	listJobs(limit: number): Promise<StoredJob[]>;
	listOpenJobs(): Promise<StoredJob[]>;

	/**
	 * False, and no effect, for a report that is there already. A report is known by its job id: a sequence number
	 * that comes again with another job is that of an agent whose outbox was made anew.
	 */
	addReport(agentId: string, sequence: number, report: Report): Promise<boolean>;
	/** Keeps it as it came, for a person to look at: of each agent the latest few, or one could fill the disk. */
	addRejectedReport(agentId: string, sequence: number, at: string, text: string): Promise<void>;
	findReport(agentId: string, agentJobId: string): Promise<Report | undefined>;

	findRecoveryPoint(id: string): Promise<RecoveryPointRow | undefined>;
	/** Newest first. */
	listRecoveryPoints(agentId?: string): Promise<RecoveryPointRow[]>;
};

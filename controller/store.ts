import type { z } from "zod";
import type { ControllerJob, diskMappingSchema, machineSchema } from "../contracts/controller-messages.ts";
import type { Report } from "../contracts/report.ts";

type Machine = z.infer<typeof machineSchema>;
export type DiskMapping = z.infer<typeof diskMappingSchema>;

export type StoredAgent = {
	readonly agentId: string;
	readonly machine: Machine;
	readonly enrolledAt: string;
	readonly lastSeenAt?: string;
	readonly disks: readonly DiskMapping[];
};

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

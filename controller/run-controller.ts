import { once } from "node:events";
import { rm } from "node:fs/promises";
import { isIPv6 } from "node:net";
import { confirmTicket, greetAgent } from "./agent-greeting.ts";
import { makeAgentLinks } from "./agent-links.ts";
import { makeDocumentReader } from "./api/document.ts";
import { makeApi } from "./api/make-api.ts";
import { routeTable } from "./api/route-table.ts";
import { makeAudit } from "./audit.ts";
import { greetAudited, noteJobEnd, notePutBack, renewAudited } from "./audited-deeds.ts";
import { keepOperatorFiles, openCertificateAuthority } from "./certificate-authority.ts";
import { keepHostOperator, makeCredentials } from "./credentials.ts";
import { makeEnrolment } from "./enrolment.ts";
import { makeEventStreams, type StreamLimits, streamLimits } from "./event-streams.ts";
import { jobEvent, makeControllerEvents } from "./events.ts";
import { type HoldLimits, holdLimits } from "./hold.ts";
import { startHttpsServer } from "./https-server.ts";
import type { Log } from "./log.ts";
import { makeImageFiles } from "./providers/image-files/image-files.ts";
import { makeRateLimits, type RequestRates, requestRates } from "./rate-limits.ts";
import { openRecoveryPointFolders } from "./recovery-points.ts";
import { closeOpenJobs, makeSnapshotJobs, type SnapshotJobs } from "./snapshot-jobs.ts";
import { openSqliteStore } from "./sqlite-store.ts";
import { makePrivateFolder, openStateFolder, statePaths, writeFileAtomically } from "./state-folder.ts";
import type { StoredJob } from "./store.ts";
import { type ConnectionLimits, connectionLimits } from "./stranger-connections.ts";
import { makeTicketSeal } from "./ticket-seal.ts";
import { makeVerifications, type VerifyRecoveryPoint } from "./verifications.ts";
import { readImageIdentity } from "./verify/image-identity.ts";
import { verifyRecoveryPoint } from "./verify/verify-recovery-point.ts";

export type ControllerInfo = {
	readonly url: string;
	readonly port: number;
	readonly pid: number;
	readonly stateDir: string;
	/** SHA-256 of the CA's DER form, hex. */
	readonly caFingerprint: string;
};

export type RunControllerOptions = {
	readonly stateDir: string;
	/** Default 127.0.0.1. */
	readonly listenHost?: string;
	/** 0: any free one. */
	readonly port: number;
	/** Aborted: everything running is undone, agents are released first, and the call resolves. */
	readonly stopping: AbortSignal;
	readonly onReady: (info: ControllerInfo) => void;
	readonly log: Log;
	/** Default: `verifyRecoveryPoint`. */
	readonly verify?: VerifyRecoveryPoint;
	/** Whether a verification starts database servers of this host, confined, on copies. Default: true. */
	readonly verifyDatabaseServers?: boolean;
	readonly limits?: Partial<HoldLimits>;
	readonly rates?: Partial<RequestRates>;
	readonly streams?: Partial<StreamLimits>;
	readonly connections?: Partial<ConnectionLimits>;
	/** Host names and addresses besides `listenHost` under which it is reached: its certificate carries them. */
	readonly serverNames?: readonly string[];
	/** How long a certificate of an agent is good. Default: 90 days. */
	readonly agentCertificateMs?: number;
};

/**
 * The reference controller, from start to stop. `<stateDir>/controller.json` exists while it answers.
 * Rejects with `already-running`, `state-unusable`, `version-unsupported` or `address-unusable` when it can't start.
 */
export async function runController(options: RunControllerOptions): Promise<void> {
	const { stateDir, listenHost = "127.0.0.1", port, stopping, log } = options;
	if (stopping.aborted) return;
	const paths = statePaths(stateDir);
	await using parts = new AsyncDisposableStack();

	await openStateFolder(stateDir);
	const store = parts.use(openSqliteStore(paths.database));
	const authority = await openCertificateAuthority(paths.ca, options.agentCertificateMs);
	await keepHostOperator(store, await keepOperatorFiles(authority, paths.operator));
	const audit = parts.use(makeAudit(store, log));
	const streamsLimited = { ...streamLimits, ...options.streams };
	const events = makeControllerEvents(streamsLimited.eventsKept);
	const folders = await openRecoveryPointFolders(paths.recoveryPoints);
	const noteEnd = (job: StoredJob["job"]) => noteJobEnd(audit, job);
	await closeOpenJobs(store, folders, log, noteEnd);
	const provider = await makeImageFiles({ readIdentity: readImageIdentity });

	const late: { jobs?: SnapshotJobs } = {};
	const seal = makeTicketSeal(authority.deriveSecret("agent tickets"));
	const greeting = { store, seal, log, onPutBack: (agentId: string) => notePutBack(audit, log, agentId) };
	const links = makeAgentLinks({
		log,
		greet: (agentId, hello) => greetAudited(audit, agentId, () => greetAgent(greeting, agentId, hello)),
		onTicketKept: (agentId, ticket) => confirmTicket(greeting, agentId, ticket),
		renew: (agentId, csr) => renewAudited(audit, agentId, () => authority.issueAgent(agentId, csr)),
		onPresence: (agentId, connected) => events.publish({ type: "agent", agentId, connected }),
		onSeen: (agentId) => store.setSeen(agentId, new Date().toISOString()),
		onReport: async (agentId, sequence, report) => (await late.jobs?.recordReport(agentId, sequence, report)) ?? report,
		onUnreadableReport: async (agentId, { sequence, text, error }) => {
			await store.addRejectedReport(agentId, sequence, new Date().toISOString(), text);
			log.error("report rejected", { agentId, sequence, reason: error.message });
		},
	});
	const limits = { ...holdLimits, ...options.limits };
	const jobs = makeSnapshotJobs({
		store,
		links: () => links,
		folders,
		provider,
		limits,
		log,
		onChange: (job) => events.publish(jobEvent(job)),
		onEnd: noteEnd,
	});
	late.jobs = jobs;

	// An earlier life that was killed may have left copies as large as disks.
	await rm(paths.scratch, { recursive: true, force: true });
	await makePrivateFolder(paths.scratch);
	const verify: VerifyRecoveryPoint = (folder, signal) =>
		verifyRecoveryPoint(folder, { scratchDir: paths.scratch, databaseServers: options.verifyDatabaseServers, signal });
	const verifications = makeVerifications(folders, options.verify ?? verify, stopping);
	const enrolment = makeEnrolment(store, authority);
	const streams = makeEventStreams(events, streamsLimited, log);
	const credentials = makeCredentials(store, authority, (name) => streams.cut(name));
	const rates = makeRateLimits({ ...requestRates, ...options.rates });
	const apiParts = { store, credentials, enrolment, links, jobs, folders, verifications, audit, events, streams };
	const api = makeApi({ ...apiParts, readDocument: makeDocumentReader(routeTable), routes: routeTable, rates, log });
	const identity = await authority.issueServer([listenHost, ...(options.serverNames ?? [])]);
	const server = parts.use(
		await startHttpsServer({
			host: listenHost,
			port,
			identity,
			ca: authority.certificate,
			api,
			links,
			credentials,
			rates,
			connections: { ...connectionLimits, ...options.connections },
			log,
		}),
	);
	// In reverse: no new connections, jobs let go of their agents, links end, event streams that told of it end, then
	// the rest of the connections.
	parts.use(streams);
	parts.use(links);
	parts.use(jobs);
	parts.defer(() => server.stopListening());

	const url = `https://${hostToReach(listenHost)}:${server.port}`;
	parts.defer(() => rm(paths.readyFile, { force: true }));
	await writeFileAtomically(paths.readyFile, `${JSON.stringify({ url, pid: process.pid })}\n`);
	log.info("controller ready", { url, stateDir });
	options.onReady({ url, port: server.port, pid: process.pid, stateDir, caFingerprint: authority.fingerprint });
	if (!stopping.aborted) await once(stopping, "abort");
	log.info("controller stopping", { url });
}

/** An address for all interfaces is none to connect to. */
function hostToReach(listenHost: string): string {
	if (listenHost === "0.0.0.0" || listenHost === "::") return "localhost";
	return isIPv6(listenHost) ? `[${listenHost}]` : listenHost;
}

import type { ControllerJob } from "../contracts/controller-messages.ts";
import type { Log } from "./log.ts";
import type { RecoveryPointRow, Store, StoredJob } from "./store.ts";

type JobState = ControllerJob["state"];
type JobFacts = Omit<ControllerJob, "report" | "jobId" | "agentId" | "state" | "orderedAt">;

/** While file systems are frozen nothing is stored: the disk has no place in the window. */
const storedLater = new Set<JobState>(["freezing", "taking"]);

/** A job that runs: what it shows, and who waits for it to change. */
export type LiveJob = {
	readonly stored: StoredJob;
	readonly ended: boolean;
	/** Shows the state at once, and stores it unless the window is open. */
	setState(state: JobState): void;
	note(facts: Partial<JobFacts>): void;
	/** The agent will know the job by one more id. Stored before it resolves. */
	addAgentJobId(id: string): Promise<void>;
	/** The last change. Stored before it is shown. */
	end(state: "done" | "failed", facts: Partial<JobFacts>, recoveryPoint?: RecoveryPointRow): Promise<void>;
	/** Resolves at the next change, or when the signal comes. */
	changed(signal: AbortSignal): Promise<void>;
};

export function makeLiveJob(
	initial: StoredJob,
	store: Store,
	log: Log,
	/** Called at every change, also while file systems are frozen. */
	onChange: (job: StoredJob["job"]) => void,
): LiveJob {
	const now = { stored: initial, ended: false, saving: Promise.resolve() };
	const waiting = new Set<() => void>();

	function change(job: Partial<StoredJob["job"]>): void {
		now.stored = { ...now.stored, job: { ...now.stored.job, ...job } };
		for (const resolve of waiting) resolve();
		onChange(now.stored.job);
	}

	function save(): void {
		const snapshot = now.stored;
		now.saving = now.saving
			.then(() => store.saveJob(snapshot))
			.catch((error) => log.error("job not stored", { jobId: snapshot.job.jobId, reason: String(error) }));
	}

	return {
		get stored() {
			return now.stored;
		},
		get ended() {
			return now.ended;
		},
		setState(state) {
			change({ state });
			if (!storedLater.has(state)) save();
		},
		note: change,
		async addAgentJobId(id) {
			now.stored = { ...now.stored, agentJobIds: [...now.stored.agentJobIds, id] };
			await now.saving;
			await store.saveJob(now.stored);
		},
		async end(state, facts, recoveryPoint) {
			await now.saving;
			const job = { ...now.stored.job, ...facts, state, endedAt: new Date().toISOString() };
			const saved = store.saveJob({ ...now.stored, job }, recoveryPoint);
			// A failure that can't be stored is still a failure; the next start finds the job open and says so.
			await (state === "done" ? saved : saved.catch((error) => log.error("job not stored", { reason: String(error) })));
			now.ended = true;
			change(job);
		},
		async changed(signal) {
			const { promise, resolve } = Promise.withResolvers<void>();
			waiting.add(resolve);
			signal.addEventListener("abort", () => resolve(), { once: true });
			if (signal.aborted) resolve();
			await promise;
			waiting.delete(resolve);
		},
	};
}

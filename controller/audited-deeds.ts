/** What is written to the audit log besides the requests of the API. */
import { asStillpointError } from "../contracts/errors.ts";
import { type Actor, type Audit, controllerActor } from "./audit.ts";
import type { Log } from "./log.ts";
import type { StoredJob } from "./store.ts";

/** An agent over its link, where the certificate has proved who it is. */
function agentActor(agentId: string): Actor {
	return { name: agentId, role: "agent", address: "link" };
}

/**
 * The end of a job is a fact that is stored already when it is noted, and nobody's wish: where the entry cannot be
 * written, the job has ended all the same.
 */
export async function noteJobEnd(audit: Audit, job: StoredJob["job"]): Promise<void> {
	const { jobId, agentId, state, level, recoveryPointId, error } = job;
	const details = { agentId, state, level, recoveryPointId };
	const outcome = state === "done" ? "ok" : (error?.code ?? "internal");
	await audit.note({ actor: controllerActor, action: "job.end", target: jobId, details }, outcome);
}

/** No certificate is given out that is not written down. */
export async function renewAudited(audit: Audit, agentId: string, renew: () => Promise<string>): Promise<string> {
	const deed = { actor: agentActor(agentId), action: "agent.renew-certificate", target: agentId };
	const entry = await audit.begin(deed);
	try {
		const certificate = await renew();
		await entry.settle("ok");
		return certificate;
	} catch (error) {
		await entry.settle(asStillpointError(error).code);
		throw error;
	}
}

/** What an operator must know: jobs, enrolments and revocations of a while are missing here. */
export async function notePutBack(audit: Audit, log: Log, agentId: string): Promise<void> {
	log.warn("an agent has a newer ticket: this controller was put back to an earlier time", { agentId });
	const deed = { actor: agentActor(agentId), action: "agent.tell-controller-put-back", target: agentId };
	await audit.note(deed, "ok");
}

/** A connection that is refused may be that of a copy: somebody should learn of it. One that is let in is no deed. */
export async function greetAudited(audit: Audit, agentId: string, greet: () => Promise<string>): Promise<string> {
	try {
		return await greet();
	} catch (error) {
		const deed = { actor: agentActor(agentId), action: "agent.connect", target: agentId };
		await audit.noteRepeatable(deed, asStillpointError(error).code);
		throw error;
	}
}

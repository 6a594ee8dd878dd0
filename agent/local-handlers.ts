/** What the agent answers on its local channel. All that is `whileFrozen` comes from memory. */

import { StillpointError } from "../contracts/errors.ts";
import type { AgentStatus } from "../contracts/local-calls.ts";
import type { LocalCaller, LocalHandlers } from "../platform/local-channel.ts";
import type { Asker } from "./asker.ts";
import type { ExtensionHost } from "./extension-host/extension-host.ts";
import type { JobRecords } from "./job-records.ts";
import type { JobRunner } from "./job-runner.ts";

export function makeLocalHandlers(given: {
	runner: JobRunner;
	records: JobRecords;
	readStatus(): AgentStatus;
	takeInventory(): Promise<Record<string, unknown>>;
	reloadLink(): void;
	extensions: Pick<ExtensionHost, "list" | "apply">;
}): LocalHandlers {
	const { runner, records, extensions } = given;
	const askers = new WeakMap<LocalCaller, Asker>();

	function askerOf(caller: LocalCaller): Asker {
		const known = askers.get(caller);
		if (known !== undefined) return known;
		const asker: Asker = {
			kind: "local",
			closed: caller.closed,
			send: (event) => void caller.notify("job.event", event),
		};
		askers.set(caller, asker);
		return asker;
	}

	return {
		"agent.status": () => Promise.resolve(given.readStatus()),
		"agent.inventory": () => given.takeInventory(),
		"job.order": ({ order }, caller) => runner.order(order, askerOf(caller)),
		"job.command": async ({ command }, caller) => {
			runner.command(command, askerOf(caller));
			return {};
		},
		"job.report": async ({ jobId }) => {
			const report = jobId === undefined ? records.latestReport() : records.findReport(jobId);
			if (report !== undefined) return { report };
			if (jobId === undefined) throw new StillpointError("not-found", "no job has a report yet");
			const known = records.find(jobId);
			if (known === undefined) throw new StillpointError("job-unknown", `no job has the id ${jobId}`);
			throw new StillpointError("not-found", `job ${jobId} has no report (${known.summary.phase})`);
		},
		"job.list": async ({ limit }) => ({ jobs: records.list(limit) }),
		"link.reload": async () => {
			given.reloadLink();
			return {};
		},
		"extensions.list": async () => ({ extensions: await extensions.list() }),
		"extensions.apply": async () => {
			await extensions.apply();
			return { extensions: await extensions.list() };
		},
		"extension.attach": async ({ token, jobId }, caller) => {
			runner.attach(token, jobId, caller);
			return {};
		},
		"extension.event": async ({ token, event }) => {
			await runner.event(token, event);
			return {};
		},
	};
}

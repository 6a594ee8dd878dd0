import type { Command } from "commander";
import type { ControllerEvent } from "../../../contracts/controller-api.ts";
import type { CommandContext } from "../../command-context.ts";
import { addControllerOptions, type ControllerOptions, connectToController } from "../../controller-access.ts";
import { printResult } from "../../output.ts";
import type { Act } from "../../run-command-line.ts";

export function addEventsCommand(controller: Command, context: CommandContext, act: Act): void {
	addControllerOptions(
		controller
			.command("events")
			.description("show what happens, until it is ended; with --json one document for each event, a line each"),
	).action((options: ControllerOptions) =>
		act(options, async () => {
			using api = await connectToController(options);
			const ending = AbortSignal.any([context.stopping, ...(context.readerGone ? [context.readerGone] : [])]);
			try {
				for await (const event of api.followEvents(ending))
					printResult(context, options.json === true, event, renderEvent);
			} catch (error) {
				// To end it by a signal, or to go away, is the way to end it.
				if (!ending.aborted) throw error;
			}
			return undefined;
		}),
	);
}

function renderEvent(event: ControllerEvent): string {
	switch (event.type) {
		case "job":
			return renderJobLine(event.job);
		case "agent":
			return `agent ${event.agentId} ${event.connected ? "connected" : "disconnected"}`;
		case "enrolment-request":
			return `enrolment request ${event.request.id} of ${event.request.machine.hostname}: ${event.request.reason}`;
		case "reset":
			return "events were missed; what follows is how it stands now";
		case "state":
			return [`connected: ${event.agents.join(" ") || "no agent"}`, ...event.jobs.map(renderJobLine)].join("\n");
		case "end":
			return "the controller stops";
	}
}

function renderJobLine(job: Extract<ControllerEvent, { type: "job" }>["job"]): string {
	const level = job.level ? `, level ${job.level}` : "";
	const error = job.error ? `, ${job.error.code}: ${job.error.message}` : "";
	return `job ${job.jobId} of ${job.agentId}: ${job.state}${level}${error}`;
}

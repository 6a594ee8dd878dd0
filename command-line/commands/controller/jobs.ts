import type { Command } from "commander";
import type { ControllerJob } from "../../../contracts/controller-messages.ts";
import { StillpointError } from "../../../contracts/errors.ts";
import type { ControllerClient } from "../../../controller/client.ts";
import type { CommandContext } from "../../command-context.ts";
import { addControllerOptions, type ControllerOptions, connectToController } from "../../controller-access.ts";
import { humanTime, printResult, table } from "../../output.ts";
import { makeProgress } from "../../progress.ts";
import { renderJob, renderStep } from "../../render-job.ts";
import type { Act } from "../../run-command-line.ts";

export function addJobsCommand(controller: Command, context: CommandContext, act: Act): void {
	addControllerOptions(controller.command("jobs").description("list jobs, or show one"))
		.argument("[job]", "job id")
		.option("--follow", "of one job: tell of every change until it has ended, then show it")
		.action((jobId: string | undefined, options: ControllerOptions & { follow?: boolean }) =>
			act(options, async () => {
				if (options.follow && jobId === undefined)
					throw new StillpointError("usage-invalid", "--follow needs the id of a job");
				using api = await connectToController(options);
				if (jobId !== undefined) {
					const job = options.follow === true ? await follow(api, jobId, options, context) : await api.readJob(jobId);
					printResult(context, options.json === true, job, renderJob);
					return undefined;
				}
				const jobs = await api.listJobs();
				printResult(context, options.json === true, { jobs }, (_, page) =>
					table(
						[
							["job", "agent", "state", "level", "ordered"],
							...jobs.map((job) => [job.jobId, job.agentId, job.state, job.level ?? "", humanTime(job.orderedAt)]),
						],
						{ page, whole: [0, 4], head: true },
					),
				);
				return undefined;
			}),
		);
}

/** A signal ends the looking on, not the job. */
async function follow(
	api: ControllerClient,
	jobId: string,
	options: ControllerOptions,
	context: CommandContext,
): Promise<ControllerJob> {
	using progress = makeProgress(context, options.json === true);
	return await api.followJob(jobId, { signal: context.stopping, onChange: (job) => progress.say(renderStep(job)) });
}

import type { Command } from "commander";
import type { CommandContext } from "../../command-context.ts";
import { addControllerOptions, type ControllerOptions, connectToController } from "../../controller-access.ts";
import { printResult, table } from "../../output.ts";
import { renderJob } from "../../render-job.ts";
import type { Act } from "../../run-command-line.ts";

export function addJobsCommand(controller: Command, context: CommandContext, act: Act): void {
	addControllerOptions(controller.command("jobs").description("list jobs, or show one"))
		.argument("[job]", "job id")
		.action((jobId: string | undefined, options: ControllerOptions) =>
			act(options, async () => {
				using api = await connectToController(options);
				if (jobId !== undefined) {
					printResult(context, options.json === true, await api.readJob(jobId), renderJob);
					return undefined;
				}
				const jobs = await api.listJobs();
				printResult(context, options.json === true, { jobs }, (_, page) =>
					table(
						[
							["job", "agent", "state", "level", "ordered"],
							...jobs.map((job) => [job.jobId, job.agentId, job.state, job.level ?? "", job.orderedAt]),
						],
						{ page, whole: [0], head: true },
					),
				);
				return undefined;
			}),
		);
}

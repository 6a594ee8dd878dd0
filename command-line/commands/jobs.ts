import type { Command } from "commander";
import type { CommandContext } from "../command-context.ts";
import { addLocalAgentOptions, connectToReadAgent } from "../local-agent.ts";
import { printResult } from "../output.ts";
import { parseCount } from "../parse-count.ts";
import { renderJobs } from "../render-jobs.ts";
import type { Act } from "../run-command-line.ts";

export function addJobsCommand(program: Command, context: CommandContext, act: Act): void {
	addLocalAgentOptions(program.command("jobs").description("list the jobs of this machine, newest first"), context)
		.option("--limit <count>", "so many", parseCount(1, 1_000), 20)
		.action((options: { runDir: string; limit: number; json?: boolean }) =>
			act(options, async () => {
				await using agent = await connectToReadAgent(options.runDir, "jobs", context.stopping);
				const list = await agent.call("job.list", { limit: options.limit }, { limitMs: 5_000 });
				printResult(context, options.json === true, list, ({ jobs }, page) =>
					jobs.length === 0 ? "no job yet" : renderJobs(jobs, page),
				);
				return undefined;
			}),
		);
}

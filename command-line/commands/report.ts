import type { Command } from "commander";
import type { CommandContext } from "../command-context.ts";
import { addLocalAgentOptions, connectToReadAgent } from "../local-agent.ts";
import { printResult } from "../output.ts";
import { renderReport } from "../render-report.ts";
import type { Act } from "../run-command-line.ts";

export function addReportCommand(program: Command, context: CommandContext, act: Act): void {
	addLocalAgentOptions(
		program
			.command("report")
			.description("say what a job held, for how long, what it is worth and why")
			.argument("[job]", "job id; default: the latest"),
		context,
	).action((job: string | undefined, options: { runDir: string; json?: boolean }) =>
		act(options, async () => {
			await using agent = await connectToReadAgent(options.runDir, "report", context.stopping);
			const { report } = await agent.call("job.report", job === undefined ? {} : { jobId: job }, { limitMs: 5_000 });
			printResult(context, options.json === true, report, renderReport);
			return undefined;
		}),
	);
}

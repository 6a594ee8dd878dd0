import type { Command } from "commander";
import type { CommandContext } from "../command-context.ts";
import { addLocalAgentOptions, connectLocalAgent } from "../local-agent.ts";
import { printResult } from "../output.ts";
import { renderReport } from "../render-report.ts";
import type { Act } from "../run-command-line.ts";

export function addReportCommand(program: Command, context: CommandContext, act: Act): void {
	addLocalAgentOptions(
		program.command("report").description("print the report of a job").argument("[job]", "job id; default: the latest"),
	).action((job: string | undefined, options: { runDir: string; json?: boolean }) =>
		act(options, async () => {
			await using agent = await connectLocalAgent(options.runDir, context.stopping);
			const { report } = await agent.call("job.report", job === undefined ? {} : { jobId: job }, { limitMs: 5_000 });
			printResult(context, options.json === true, report, renderReport);
			return undefined;
		}),
	);
}

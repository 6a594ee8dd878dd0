import type { Command } from "commander";
import type { CommandContext } from "../../command-context.ts";
import { addControllerOptions, type ControllerOptions, connectToController } from "../../controller-access.ts";
import { printResult } from "../../output.ts";
import type { Act } from "../../run-command-line.ts";

export function addCancelCommand(controller: Command, context: CommandContext, act: Act): void {
	addControllerOptions(controller.command("cancel").description("cancel a job; everything is undone"))
		.argument("<job>", "job id")
		.action((jobId: string, options: ControllerOptions) =>
			act(options, async () => {
				using api = await connectToController(options);
				await api.cancelJob(jobId);
				printResult(context, options.json === true, { jobId }, () => `cancelling ${jobId}`);
				return undefined;
			}),
		);
}

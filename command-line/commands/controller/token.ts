import type { Command } from "commander";
import type { CommandContext } from "../../command-context.ts";
import { addControllerOptions, type ControllerOptions, connectToController } from "../../controller-access.ts";
import { printResult } from "../../output.ts";
import { parseCount } from "../../parse-count.ts";
import type { Act } from "../../run-command-line.ts";

export function addTokenCommand(controller: Command, context: CommandContext, act: Act): void {
	addControllerOptions(controller.command("token").description("make a one-time token that enrols one agent"))
		.option("--valid-hours <hours>", "how long it may be used", parseCount(1, 720), 24)
		.action((options: ControllerOptions & { validHours: number }) =>
			act(options, async () => {
				using api = await connectToController(options);
				const token = await api.createToken(options.validHours * 3_600_000);
				printResult(context, options.json === true, token, () => token.token);
				return undefined;
			}),
		);
}

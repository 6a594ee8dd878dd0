import type { Command } from "commander";
import type { CommandContext } from "../command-context.ts";
import { addLocalAgentOptions, connectToReadAgent } from "../local-agent.ts";
import { printResult } from "../output.ts";
import { renderStatus } from "../render-status.ts";
import type { Act } from "../run-command-line.ts";

export function addStatusCommand(program: Command, context: CommandContext, act: Act): void {
	addLocalAgentOptions(
		program
			.command("status")
			.description("say whether this machine is protected, since when and how well; ends with 3 when it is not"),
		context,
	).action((options: { runDir: string; json?: boolean }) =>
		act(options, async () => {
			await using agent = await connectToReadAgent(options.runDir, "status", context.stopping);
			const status = await agent.call("agent.status", {}, { limitMs: 5_000 });
			printResult(context, options.json === true, status, (one, page) => renderStatus(one, page, Date.now()));
			if (status.frozen.length > 0 && status.job?.phase === "stuck") return 9;
			return status.protection.state === "protected" ? 0 : 3;
		}),
	);
}

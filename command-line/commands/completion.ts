import { Argument, type Command } from "commander";
import type { CommandContext } from "../command-context.ts";
import { readCommandTree } from "../command-tree.ts";
import { type Shell, shells, writeCompletionScript } from "../completion-scripts.ts";
import { printResult } from "../output.ts";
import type { Act } from "../run-command-line.ts";

export function addCompletionCommand(program: Command, context: CommandContext, act: Act): void {
	program
		.command("completion")
		.description('print the completions for a shell; bash: eval "$(stillpoint completion bash)"')
		.addArgument(new Argument("<shell>", "whose").choices(shells))
		.option("--json", "print one JSON document")
		.action((shell: Shell, options: { json?: boolean }) =>
			act(options, async () => {
				const { explainableWords } = await import("../explanations.ts");
				const script = writeCompletionScript(shell, readCommandTree(program, explainableWords()));
				printResult(context, options.json === true, { shell, script }, (result) => result.script);
				return undefined;
			}),
		);
}

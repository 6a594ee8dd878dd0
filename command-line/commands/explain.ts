import type { Command } from "commander";
import { StillpointError } from "../../contracts/errors.ts";
import type { CommandContext } from "../command-context.ts";
import type { Explanation } from "../explanations.ts";
import { fields, type Page, paint } from "../layout.ts";
import { printResult } from "../output.ts";
import type { Act } from "../run-command-line.ts";

export function addExplainCommand(program: Command, context: CommandContext, act: Act): void {
	program
		.command("explain")
		.description("say what a word means: the code of an error, a word of `because`, an exit status")
		.argument("<word>", "such as foreign-freeze, or 3")
		.option("--json", "print one JSON document")
		.action((word: string, options: { json?: boolean }) =>
			act(options, async () => {
				const { explain } = await import("../explanations.ts");
				const { found: explanations, nearest } = explain(word);
				if (explanations.length === 0)
					throw new StillpointError("not-found", `no word ${word}; nearest: ${nearest.join(", ")}`, {
						details: { nearest },
					});
				printResult(context, options.json === true, { explanations }, (result, page) =>
					result.explanations.map((one) => renderExplanation(one, page)).join("\n\n"),
				);
				return undefined;
			}),
		);
}

const kinds = {
	error: "error",
	because: "word of `because`: why a snapshot is worth less than asked",
	protection: "why a machine is not fully protected",
	"exit-status": "exit status of a command",
} as const;

function renderExplanation(one: Explanation, page: Page): string {
	const { exit, retryable, remedy, codes = [] } = one;
	const rows: [string, string][] = [["what", one.summary]];
	if (remedy !== undefined) rows.push(["do", remedy]);
	if (exit !== undefined) rows.push(["exit", `${exit}${retryable ? "; the same again may succeed later" : ""}`]);
	if (codes.length > 0) rows.push(["codes", codes.join(", ")]);
	rows.push(["read", one.documentedAt]);
	return `${paint(one.word, "strong", page)} (${kinds[one.kind]})\n${fields(rows, page, 5)}`;
}

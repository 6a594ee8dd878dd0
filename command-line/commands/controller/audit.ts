import type { Command } from "commander";
import type { CommandContext } from "../../command-context.ts";
import { addControllerOptions, type ControllerOptions, connectToController } from "../../controller-access.ts";
import { printResult } from "../../output.ts";
import { parseCount } from "../../parse-count.ts";
import { renderAudit } from "../../render-audit.ts";
import type { Act } from "../../run-command-line.ts";

type Filter = { limit: number; before?: number; actor?: string; action?: string; target?: string; outcome?: string };

export function addAuditCommand(controller: Command, context: CommandContext, act: Act): void {
	addControllerOptions(controller.command("audit").description("who did what, when, and how it ended; newest first"))
		.option("--limit <count>", "so many entries", parseCount(1, 1_000), 50)
		.option("--before <sequence>", "older ones than this", parseCount(1, Number.MAX_SAFE_INTEGER))
		.option("--actor <name>", "of this credential or agent only")
		.option("--action <word>", "of this action only, such as snapshot.order")
		.option("--target <id>", "of this job, agent or name only")
		.option("--outcome <word>", "ok, begun, or an error code")
		.action((options: ControllerOptions & Filter) =>
			act(options, async () => {
				using api = await connectToController(options);
				const { limit, before, actor, action, target, outcome } = options;
				const words = Object.entries({ limit, before, actor, action, target, outcome });
				const page = await api.listAudit(Object.fromEntries(words.filter(([, value]) => value !== undefined)));
				printResult(context, options.json === true, page, ({ entries, next }, terminal) =>
					[renderAudit(entries, terminal), ...(next === undefined ? [] : [`older ones: --before ${next}`])].join("\n"),
				);
				return undefined;
			}),
		);
}

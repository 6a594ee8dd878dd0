import type { Command } from "commander";
import type { CheckedConfig, ConfigEntry, ConfigFault } from "../../agent/check-config.ts";
import { errorCatalogue } from "../../contracts/errors.ts";
import type { CommandContext } from "../command-context.ts";
import { type Cell, type Page, paragraph, table } from "../layout.ts";
import { printResult } from "../output.ts";
import { parsePath } from "../parse-path.ts";
import type { Act } from "../run-command-line.ts";

type ShowOptions = { config?: string; origin?: boolean; json?: boolean };

export function addConfigCommands(program: Command, context: CommandContext, act: Act): void {
	const group = program.command("config").description("see and check the agent's configuration");
	group
		.command("show")
		.description("print every key with its value, as an agent in this environment would read it; without passwords")
		.option("--config <file>", "configuration file (default /etc/stillpoint/agent.json)", parsePath)
		.option("--origin", "say where each value comes from: default, file and line, or variable")
		.option("--json", "print one JSON document")
		.action((options: ShowOptions) =>
			act(options, async () => {
				const { showConfig } = await import("../../agent/check-config.ts");
				const flags = options.config === undefined ? {} : { config: options.config };
				const shown = await showConfig({ flags, environment: context.environment });
				printResult(context, options.json === true, shown, ({ entries }, page) =>
					renderEntries(entries, options.origin === true, page),
				);
				return undefined;
			}),
		);
	group
		.command("check")
		.description("name every fault of a configuration at once; ends with 78 when there is one")
		.argument("[file]", "default: /etc/stillpoint/agent.json", parsePath)
		.option("--json", "print one JSON document")
		.action((file: string | undefined, options: { json?: boolean }) =>
			act(options, async () => {
				const { checkConfig } = await import("../../agent/check-config.ts");
				const flags = file === undefined ? {} : { config: file };
				const checked = await checkConfig({ flags, environment: context.environment });
				printResult(context, options.json === true, checked, renderChecked);
				return checked.faults.length > 0 ? errorCatalogue["config-invalid"].exit : 0;
			}),
		);
}

function renderEntries(entries: readonly ConfigEntry[], withOrigin: boolean, page: Page): string {
	const rows = entries.map(({ key, value, origin, where }): Cell[] => [
		key,
		value === undefined ? { text: "not set", tone: "dim" } : JSON.stringify(value),
		...(withOrigin ? [origin === "default" ? { text: origin, tone: "dim" as const } : (where ?? origin)] : []),
	]);
	return table(rows, { page, whole: [0] });
}

function renderChecked({ configFile, exists, faults, warnings }: CheckedConfig, page: Page): string {
	const verdict =
		faults.length > 0
			? `${configFile}: ${faults.length === 1 ? "1 fault" : `${faults.length} faults`}`
			: exists
				? `${configFile}: no fault`
				: `${configFile} does not exist: every key has its default; no fault`;
	const rows = faults.map((one): Cell[] => [
		one.variable ?? (one.line === undefined ? "" : `line ${one.line}`),
		{ text: one.key, tone: "bad" },
		whatOf(one),
	]);
	return [
		paragraph(verdict, page, 0, faults.length > 0 ? "bad" : "good"),
		...(rows.length > 0 ? [table(rows, { page, indent: 2 })] : []),
		...warnings.map((one) => paragraph(`warning: ${one}`, page, 0, "warn")),
	].join("\n");
}

function whatOf({ what, nearest }: ConfigFault): string {
	return nearest === undefined ? what : `${what}; the nearest known one is ${nearest}`;
}

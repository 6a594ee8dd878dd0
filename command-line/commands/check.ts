import { type Command, Option } from "commander";
import { StillpointError } from "../../contracts/errors.ts";
import type { CommandContext } from "../command-context.ts";
import { printResult } from "../output.ts";
import { parsePath } from "../parse-path.ts";
import { makeProgress } from "../progress.ts";
import { renderCheck } from "../render-check.ts";
import type { Act } from "../run-command-line.ts";

type Options = {
	config?: string;
	stateDir?: string;
	runDir?: string;
	disk: string[];
	tryFreeze?: boolean;
	details?: boolean;
	json?: boolean;
};

/** Plans as a job would, by the machine's own configuration; without `--try-freeze` nothing is touched. */
export function addCheckCommand(program: Command, context: CommandContext, act: Act): void {
	const many = (value: string, before: string[]) => [...before, value];
	program
		.command("check")
		.description(
			"say what a snapshot taken now would be worth, and what stands in the way; needs no agent. Ends with 0 when protected",
		)
		.option("--try-freeze", "really freeze and thaw everything covered, for milliseconds, and measure it")
		.option("--details", "all that is known, not only one screen")
		.addOption(
			new Option("--disk <name>", "only these disks, by kernel name or serial:TEXT (may be repeated)")
				.argParser(many)
				.default([], "all"),
		)
		.option(
			"--config <file>",
			"configuration of the agent (default /etc/stillpoint/agent.json, which may be absent)",
			parsePath,
		)
		.option("--state-dir <folder>", "state folder of the agent (default /var/lib/stillpoint)", parsePath)
		.option("--run-dir <folder>", "run folder of the agent (default /run/stillpoint)", parsePath)
		.option("--json", "print one JSON document")
		.action((options: Options) =>
			act(options, async () => {
				requireRoot();
				const { loadConfig } = await import("../../agent/load-config.ts");
				const { checkMachine } = await import("../check/check-machine.ts");
				const { json, disk, tryFreeze, details, ...flags } = options;
				const { environment, stopping } = context;
				const loaded = await loadConfig({ flags, environment });
				using progress = makeProgress(context, json === true);
				const check = await checkMachine({
					loaded,
					environment,
					disks: disk.length === 0 ? "all" : { include: disk },
					tryFreeze: tryFreeze === true,
					signal: stopping,
					onStep: (step) => progress.say(step),
				});
				progress.clear();
				printResult(context, json === true, check, (one, page) => renderCheck(one, details === true, page));
				if (
					check.frozen.length > 0 ||
					check.findings.some(({ check: name, status }) => name === "stuck" && status === "fail")
				)
					return 9;
				return check.state === "protected" ? 0 : 3;
			}),
		);
}

function requireRoot(): void {
	if (process.platform !== "linux") throw new StillpointError("platform-unsupported", "check works on Linux");
	if (process.getuid?.() !== 0)
		throw new StillpointError(
			"root-required",
			"only root may look at every disk and script; try: sudo stillpoint check",
		);
}

import { existsSync } from "node:fs";
import type { Command } from "commander";
import { StillpointError } from "../../contracts/errors.ts";
import { thawFromLedgers } from "../../platform/linux/rescue-thaw.ts";
import { checkRunFolder } from "../check/check-run-folder.ts";
import type { CommandContext } from "../command-context.ts";
import { usualFolders } from "../local-agent.ts";
import { printResult, table } from "../output.ts";
import { parsePath } from "../parse-path.ts";
import type { Act } from "../run-command-line.ts";

/**
 * The way out when something is left frozen. It needs no agent, reads only the ledgers in the run folder, touches only
 * what they say is ours, and makes no call that hangs on a frozen disk.
 */
export function addThawCommand(program: Command, context: CommandContext, act: Act): void {
	const { runDir: usual } = usualFolders(context);
	program
		.command("thaw")
		.description("thaw whatever a job of Stillpoint left frozen on this machine; works without the agent")
		.option("--run-dir <folder>", "run folder of the agent", parsePath, usual)
		.option("--json", "print one JSON document")
		.action((options: { runDir: string; json?: boolean }) =>
			act(options, async () => {
				if (process.platform !== "linux") throw new StillpointError("platform-unsupported", "thaw works on Linux");
				if (process.getuid?.() !== 0) throw new StillpointError("root-required", "thawing needs CAP_SYS_ADMIN");
				// A mistyped folder must not be answered with an all-clear.
				if (options.runDir !== usual && !existsSync(options.runDir))
					throw new StillpointError("not-found", `--run-dir: there is no folder ${options.runDir}`);
				const folders = [options.runDir, checkRunFolder(options.runDir)];
				const fileSystems = (await Promise.all(folders.map((one) => thawFromLedgers(one)))).flat();
				printResult(context, options.json === true, { fileSystems }, (_, page) =>
					fileSystems.length === 0
						? "nothing of ours is frozen"
						: table(
								fileSystems.map((one) => [one.mountPoint || (one.ledger ?? ""), one.result, one.detail ?? ""]),
								{ page },
							),
				);
				return fileSystems.some((one) => one.result === "thaw-failed") ? 9 : 0;
			}),
		);
}

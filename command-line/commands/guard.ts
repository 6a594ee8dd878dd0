import { resolve } from "node:path";
import type { Command } from "commander";
import { StillpointError } from "../../contracts/errors.ts";
import { siblingProgram } from "../../platform/linux/sibling-program.ts";
import type { CommandContext } from "../command-context.ts";
import { defaultRunFolder } from "../local-agent.ts";
import type { Act } from "../run-command-line.ts";

/** More than a FITHAW that hangs on each of many file systems can hold at a time. */
const threads = 64;

/** The belt of the agent: in a service, or a control group, of its own. */
export function addGuardCommands(program: Command, context: CommandContext, act: Act): void {
	program
		.command("guard")
		.description("the process that thaws when all others of Stillpoint are gone")
		.command("run")
		.description("watch the run folder in the foreground, as a service manager does; best started before the agent")
		.option("--run-dir <folder>", "run folder of the agent", defaultRunFolder)
		.option("--json", "print one JSON document when ready")
		.action((options: { runDir: string; json?: boolean }) =>
			act(options, async () => {
				if (process.platform !== "linux") throw new StillpointError("platform-unsupported", "the guard works on Linux");
				if (process.getuid?.() !== 0) throw new StillpointError("root-required", "thawing needs CAP_SYS_ADMIN");
				const entry = siblingProgram(import.meta.url, { source: "../guard-program.ts", bundled: "./guard.mjs" });
				context.become?.([entry, resolve(options.runDir), ...(options.json === true ? ["--json"] : [])], threads);
				return undefined;
			}),
		);
}

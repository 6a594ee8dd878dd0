import { Command, CommanderError } from "commander";
import { StillpointError } from "../contracts/errors.ts";
import { version } from "../contracts/version.ts";
import type { CommandContext } from "./command-context.ts";
import { addAgentCommands } from "./commands/agent.ts";
import { addCheckCommand } from "./commands/check.ts";
import { addCompletionCommand } from "./commands/completion.ts";
import { addConfigCommands } from "./commands/config.ts";
import { addControllerCommands } from "./commands/controller.ts";
import { addDiagnoseCommand } from "./commands/diagnose.ts";
import { addExplainCommand } from "./commands/explain.ts";
import { addExtensionAuthorCommands } from "./commands/extension-author.ts";
import { addExtensionsCommand } from "./commands/extensions.ts";
import { addGuardCommands } from "./commands/guard.ts";
import { addJobsCommand } from "./commands/jobs.ts";
import { addReportCommand } from "./commands/report.ts";
import { addScriptsCommand } from "./commands/scripts.ts";
import { addSnapshotCommand } from "./commands/snapshot.ts";
import { addStatusCommand } from "./commands/status.ts";
import { addThawCommand } from "./commands/thaw.ts";
import { printError, tellError } from "./output.ts";
import { pageOfStdout } from "./page.ts";

/**
 * Runs the body of a command and keeps its exit status; every error ends here.
 * A body returns nothing for 0, or the exit status for an outcome that is no error (such as 3: weaker than asked).
 */
export type Act = (options: { json?: boolean }, body: () => Promise<number | undefined>) => Promise<void>;

/** The whole of the command line: what is parsed, and what help, completions and docs/command-line.md are made of. */
export function makeProgram(context: CommandContext, act: Act): Command {
	const helpWidth = () => Math.min(pageOfStdout(context).columns, 120);
	const program = new Command("stillpoint")
		.description("Holds a machine's disks still for a snapshot, and says what the snapshot is worth.")
		.version(version)
		.option("--no-color", "no colours, as with NO_COLOR set")
		.configureHelp({ showGlobalOptions: true, minWidthToWrap: 20 })
		.configureOutput({
			writeOut: context.stdout,
			// The help that a lone group of commands prints; its errors are printed here like all others.
			writeErr: context.stderr,
			outputError: () => {},
			getOutHelpWidth: helpWidth,
			getErrHelpWidth: helpWidth,
		});
	addAgentCommands(program, context, act);
	addGuardCommands(program, context, act);
	addCheckCommand(program, context, act);
	addSnapshotCommand(program, context, act);
	addStatusCommand(program, context, act);
	addJobsCommand(program, context, act);
	addReportCommand(program, context, act);
	addExtensionsCommand(program, context, act);
	addScriptsCommand(program, context, act);
	addThawCommand(program, context, act);
	addConfigCommands(program, context, act);
	addExplainCommand(program, context, act);
	addDiagnoseCommand(program, context, act);
	addControllerCommands(program, context, act);
	addExtensionAuthorCommands(program, context, act);
	addCompletionCommand(program, context, act);
	overrideExits(program);
	return program;
}

/** Parses the command line and runs one command. Never throws; the result is the exit status. */
export async function runCommandLine(words: readonly string[], outside: CommandContext): Promise<number> {
	const isJson = words.includes("--json");
	const environment = { ...outside.environment, ...(words.includes("--no-color") ? { NO_COLOR: "1" } : {}) };
	const context = { ...outside, environment };
	let status = 0;
	const act: Act = async (options, body) => {
		try {
			status = (await body()) ?? 0;
		} catch (error) {
			status = printError(context, options.json === true, asInterrupted(error, context.stopping));
		}
	};
	const program = makeProgram(context, act);
	try {
		await program.parseAsync([...words], { from: "user" });
	} catch (error) {
		if (!(error instanceof CommanderError)) status = printError(context, isJson, error);
		else if (error.exitCode !== 0)
			status = printError(context, isJson, new StillpointError("usage-invalid", usageFault(error, program, words)));
	}
	return await statusWhenWritten(status, context);
}

/** What was waited for ends with the reason of the signal that a person sent: no bug, and nothing to trace. */
function asInterrupted(error: unknown, stopping: AbortSignal): unknown {
	if (!stopping.aborted || (error !== stopping.reason && (error as Error | undefined)?.name !== "AbortError"))
		return error;
	return new StillpointError("terminated", "the command was interrupted", { cause: error });
}

/** An answer that nobody got is no success: a script must not take an empty file for one. */
async function statusWhenWritten(status: number, context: CommandContext): Promise<number> {
	const fault = await context.findOutputFault?.();
	if (fault === undefined || (status !== 0 && status !== 3)) return status;
	return tellError(context, false, new StillpointError("output-failed", fault.message, { cause: fault }));
}

function usageFault(error: CommanderError, program: Command, words: readonly string[]): string {
	if (error.code === "commander.help") return "a command is missing";
	const said = error.message.replace(/^error: /, "").replaceAll("\n", " ");
	return `${said}${said.endsWith(".") ? "" : ";"} see: stillpoint ${[...commandIn(program, words), "--help"].join(" ")}`;
}

/** The words that name a command, as far as they do. */
function commandIn(program: Command, words: readonly string[]): string[] {
	const [word = "", ...rest] = words;
	const child = program.commands.find((one) => one.name() === word || one.aliases().includes(word));
	return child === undefined ? [] : [word, ...commandIn(child, rest)];
}

/** Commander would end the process itself: every command throws instead. */
function overrideExits(command: Command): void {
	command.exitOverride();
	for (const one of command.commands) overrideExits(one);
}

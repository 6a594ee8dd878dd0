/** Whether there are colours, and how wide a line may be: one rule for all commands. */
import type { CommandContext } from "./command-context.ts";
import type { Page } from "./layout.ts";

type Surroundings = Pick<CommandContext, "environment" | "isTerminal" | "columns" | "stderrTerminal">;

const widthWithoutAnswer = 80;

export function pageOfStdout(context: Surroundings): Page {
	const { environment, isTerminal, columns } = context;
	return makePage(environment, isTerminal ? (columns ?? widthWithoutAnswer) : undefined);
}

export function pageOfStderr({ environment, stderrTerminal }: Surroundings): Page {
	return makePage(environment, stderrTerminal?.columns);
}

/**
 * NO_COLOR (no-color.org: any value that is not empty; `--no-color` sets it) ends all doubt; CLICOLOR_FORCE (neither
 * empty nor 0) gives colours without a terminal, for those who record; else there are colours on a terminal that is
 * not `dumb`. COLUMNS counts where there is no terminal to ask.
 */
function makePage(environment: Surroundings["environment"], terminalColumns: number | undefined): Page {
	const { NO_COLOR, CLICOLOR_FORCE, TERM, COLUMNS } = environment;
	const isForced = CLICOLOR_FORCE !== undefined && CLICOLOR_FORCE !== "" && CLICOLOR_FORCE !== "0";
	const hasColor = !NO_COLOR && (isForced || (terminalColumns !== undefined && TERM !== "dumb"));
	const asked = /^\d{2,4}$/.test(COLUMNS ?? "") ? Number(COLUMNS) : undefined;
	const columns = terminalColumns || asked || Number.POSITIVE_INFINITY;
	return { hasColor, columns: Math.max(40, columns) };
}

/** What the entry file hands to the commands: the world outside, and nothing else of it is touched. */
export type CommandContext = {
	readonly environment: Readonly<Record<string, string | undefined>>;
	/** Aborted by SIGINT and SIGTERM. */
	readonly stopping: AbortSignal;
	/** Aborted when nobody reads stdout any more (`| head`). What only tells ends then; what holds a freeze goes on. */
	readonly readerGone?: AbortSignal;
	readonly signalled: () => "SIGINT" | "SIGTERM" | undefined;
	/** This process becomes another program of ours, by the same pid: `words` are the program and its arguments. */
	readonly become?: (words: readonly [string, ...string[]], threads: number) => unknown;
	readonly stdout: (text: string) => void;
	/** Waits until stdout has all of it. What went wrong, but for a reader that went away. */
	readonly findOutputFault?: () => Promise<Error | undefined>;
	readonly stderr: (text: string) => void;
	/** Whether stdout is a terminal, and its width now. */
	readonly isTerminal: boolean;
	readonly columns?: number | undefined;
	readonly stderrTerminal?: { readonly columns: number } | undefined;
};

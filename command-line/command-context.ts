/** What the entry file hands to the commands: the world outside, and nothing else of it is touched. */
export type CommandContext = {
	readonly environment: Readonly<Record<string, string | undefined>>;
	/** Aborted by SIGINT and SIGTERM. */
	readonly stopping: AbortSignal;
	readonly signalled: () => "SIGINT" | "SIGTERM" | undefined;
	readonly stdout: (text: string) => void;
	readonly stderr: (text: string) => void;
	readonly isTerminal: boolean;
};

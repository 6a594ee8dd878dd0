/** What the kit takes of the process: hand over `process` itself. Nothing else of the world outside is touched. */
export type HandlerProcess = {
	readonly argv: readonly string[];
	readonly execPath: string;
	readonly execArgv: readonly string[];
	readonly env: Readonly<Record<string, string | undefined>>;
	readonly pid: number;
	cwd(): string;
	readonly stdin: AsyncIterable<unknown> & { destroy(): unknown };
	readonly stdout: { write(text: string): unknown };
	readonly stderr: { write(text: string): unknown };
	on(signal: "SIGTERM" | "SIGINT" | "SIGHUP", listener: () => void): unknown;
};

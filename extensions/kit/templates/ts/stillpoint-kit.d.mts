/** The kit for extensions of Stillpoint and of every host that follows Azure's handler contract. See the guide. */

type Awaitable<T> = T | Promise<T>;
type Level = "transitioning" | "success" | "warning" | "error";

/** What a status file tells. */
export type StatusReport = {
	readonly status: Level;
	/** 0 when not given, 1 for an error. */
	readonly code?: number;
	readonly message: string;
	readonly substatus?: readonly {
		readonly name: string;
		readonly status: Level;
		readonly code: number;
		readonly message: string;
	}[];
};

/** What a command or job ends with. A text is the message of a success. What it throws is an error. */
export type Outcome = undefined | string | StatusReport;

export type HandlerSettings = {
	readonly sequenceNumber: number;
	/** Of a named instance ("multi-config"). */
	readonly extensionName: string | undefined;
	readonly publicSettings: Readonly<Record<string, unknown>>;
	/** Decrypted. Never log it, write it or pass it on a command line. */
	readonly protectedSettings: Readonly<Record<string, unknown>>;
	readonly settingsFile: string;
};

export type HandlerContext = {
	/** The installed package, which is the working folder as well. */
	readonly packageFolder: string;
	readonly name: string;
	/** Empty when the host does not say. */
	readonly version: string;
	/** The folders of the host. */
	readonly environment: {
		readonly name: string | undefined;
		readonly logFolder: string;
		readonly configFolder: string;
		readonly statusFolder: string;
		readonly heartbeatFile: string;
		readonly eventsFolder: string | undefined;
	};
	/** What the host told by environment variables. */
	readonly variables: Readonly<Record<string, string | undefined>>;
	/** A line to the handler's own log file. Texts of the protected settings are masked. */
	log(line: string): Promise<void>;
	/** An event for the host to collect, delivered at most once. */
	event(event: {
		readonly level: "Error" | "Warning" | "Informational" | "Verbose";
		readonly task: string;
		readonly message: string;
		readonly operationId?: string;
	}): Promise<void>;
	/** Aborts when the process is asked to end: undo, and return or throw within seconds. */
	readonly signal: AbortSignal;
};

export type EnableContext = HandlerContext & {
	readonly settings: HandlerSettings;
	/** Writes the status: how far it is (`transitioning`), or that a service runs (`success`). */
	report(report: StatusReport): Promise<void>;
};

/** An extension. A command that is not given does nothing and succeeds. */
export type Handler = {
	install?(context: HandlerContext): Awaitable<Outcome>;
	/** At most 300 s. What takes longer is the `job`. */
	enable?(context: EnableContext): Awaitable<Outcome>;
	disable?(context: HandlerContext): Awaitable<Outcome>;
	update?(context: HandlerContext): Awaitable<Outcome>;
	uninstall?(context: HandlerContext): Awaitable<Outcome>;
	/** Work that outlives `enable`, in a process of its own. Disable, update and uninstall end it. */
	job?(context: EnableContext): Awaitable<Outcome>;
	/** How long a job that is asked to end may take for it; then it is killed. 10 s when not given. */
	readonly jobGraceMs?: number;
	/** Whether the work of one sequence number is done once only. A host enables again at each of its starts. */
	readonly once?: boolean;
	/** Whether the secrets are taken out of the settings file after they were read. */
	readonly blankProtectedSettings?: boolean;
	/** While the job runs; for a manifest with `reportHeartbeat`. */
	heartbeat?(): Awaitable<{ readonly ready: boolean; readonly code?: number; readonly message: string }>;
};

/** The entry: `process.exitCode = await runHandler(handler, process)`. */
export function runHandler(handler: Handler, process: NodeProcess): Promise<number>;

/** What is taken of Node's `process`. */
export type NodeProcess = {
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

/** What `stillpoint extensions test` does, for a test program of your own. */
export function checkHandler(given: {
	packageFolder: string;
	/** Empty or absent; holds keys, packages and logs of the run afterwards. */
	workFolder: string;
	settings?: TestSettings;
	privateNamespace?: boolean;
	signal?: AbortSignal;
	onCheck?: (result: CheckResult) => void;
}): Promise<{
	readonly name: string;
	readonly version: string;
	readonly passed: boolean;
	readonly checks: readonly CheckResult[];
}>;

export type TestSettings = {
	readonly publicSettings?: unknown;
	readonly protectedSettings?: unknown;
	/** Public settings that the handler must refuse. */
	readonly wrongPublicSettings?: unknown;
	/** Files in the package that must not change when enable is repeated. */
	readonly unchanged?: readonly string[] | undefined;
	/** How long the work may take until its status says an end. */
	readonly statusLimitMs?: number | undefined;
};

export type CheckResult = {
	readonly name: string;
	readonly result: "passed" | "failed" | "skipped";
	readonly what?: string;
	readonly remedy?: string;
};

/** A host of extensions for tests: commands and files, as Azure's agents do it. */
export function openHandlerHost(options: {
	readonly packageFolder: string;
	readonly workFolder: string;
	/** Shows `workFolder` at /var/lib/waagent to the handler. Needs root. */
	readonly privateNamespace?: boolean;
	readonly environment?: Readonly<Record<string, string>>;
	readonly limitMs?: number;
}): Promise<HandlerHost>;

export type EnableWith = {
	readonly sequenceNumber: number;
	readonly publicSettings?: unknown;
	/** Encrypted on the way. */
	readonly protectedSettings?: unknown;
	readonly extensionName?: string;
	/** The settings file as it is to lie there, instead of what the above would make. */
	readonly settingsText?: string | Uint8Array;
};

export type CommandResult = {
	readonly command: string;
	/** Null when it was ended by a signal. */
	readonly exitCode: number | null;
	readonly timedOut: boolean;
	readonly durationMs: number;
	readonly output: string;
};

export type ReadStatus = {
	readonly status: Level;
	readonly code: number;
	readonly operation: string;
	readonly message: string;
	readonly substatus: readonly { name: string; status: string; code: number; message: string }[];
	readonly content: unknown;
};

export type FoundProcess = { readonly pid: number; readonly commandLine: string };

export type HandlerHost = AsyncDisposable & {
	readonly name: string;
	readonly version: string;
	/** Of the installed version. */
	readonly folder: string;
	readonly statusFolder: string;
	readonly configFolder: string;
	readonly logFolder: string;
	readonly keys: { readonly thumbprint: string; encrypt(content: string): Promise<string> };
	install(): Promise<CommandResult>;
	enable(settings: EnableWith): Promise<CommandResult>;
	settingsText(settings: EnableWith): Promise<string>;
	enableAgain(): Promise<CommandResult>;
	disable(extensionName?: string): Promise<CommandResult>;
	update(packageFolder: string): Promise<CommandResult[]>;
	uninstall(): Promise<CommandResult>;
	readStatus(sequenceNumber: number, extensionName?: string): Promise<ReadStatus | undefined>;
	waitForStatus(sequenceNumber: number, options?: { limitMs?: number; extensionName?: string }): Promise<ReadStatus>;
	readHeartbeat(): Promise<{ readonly ageMs: number; readonly ready: boolean; readonly message: string } | undefined>;
	readEvents(): Promise<Record<string, unknown>[]>;
	log(): Promise<string>;
	processes(): Promise<FoundProcess[]>;
	/** Without those whose ids are known to be others'. */
	newProcesses(known: ReadonlySet<string>): FoundProcess[];
	endProcesses(): Promise<FoundProcess[]>;
};

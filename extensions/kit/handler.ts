import type { HandlerEnvironment } from "./handler-environment.ts";
import type { HandlerEvent } from "./handler-events.ts";
import type { HandlerSettings } from "./handler-settings.ts";
import type { HandlerStatus } from "./handler-status.ts";
import type { Heartbeat } from "./heartbeat-file.ts";

/** What a command or job ends with: what to say in its status. A text is the message of a success. */
export type Outcome = undefined | string | StatusReport;
export type StatusReport = Omit<HandlerStatus, "name" | "operation" | "code"> & { readonly code?: number };

/** What every command of a handler is given. */
export type HandlerContext = {
	/** The installed package, which is the working folder as well. */
	readonly packageFolder: string;
	readonly name: string;
	/** Empty when the host does not say. */
	readonly version: string;
	/** The folders of the host: logs, status, configuration, events. */
	readonly environment: HandlerEnvironment;
	/** What the host told by environment variables, such as AZURE_GUEST_AGENT_UPDATING_FROM_VERSION. */
	readonly variables: Readonly<Record<string, string | undefined>>;
	/** A line to the handler's own log file. Texts of the protected settings are masked. */
	log(line: string): Promise<void>;
	/** An event for the host to collect, delivered at most once. Does nothing when the host takes none. */
	event(event: HandlerEvent): Promise<void>;
	/** Aborts when the process is asked to end: undo, and return or throw within seconds. */
	readonly signal: AbortSignal;
};

/** What `enable` and `job` are given besides. */
export type EnableContext = HandlerContext & {
	readonly settings: HandlerSettings;
	/** Writes the status of this sequence number: how far it is (`transitioning`), or that it runs (`success`). */
	report(report: StatusReport): Promise<void>;
};

type Awaitable<T> = T | Promise<T>;

/**
 * An extension by Azure's handler contract. What a command throws becomes its exit status, and for `enable` and `job`
 * the error in the status file. A command that is not given does nothing and succeeds.
 */
export type Handler = {
	install?(context: HandlerContext): Awaitable<Outcome>;
	/** At most 300 s. What takes longer is the `job`. */
	enable?(context: EnableContext): Awaitable<Outcome>;
	disable?(context: HandlerContext): Awaitable<Outcome>;
	update?(context: HandlerContext): Awaitable<Outcome>;
	uninstall?(context: HandlerContext): Awaitable<Outcome>;
	/**
	 * Work that outlives `enable`, in a process of its own which is started after `enable` has returned. It is ended by
	 * disable, update and uninstall, and by an enable with another sequence number.
	 */
	job?(context: EnableContext): Awaitable<Outcome>;
	/** How long a job that is asked to end may take for it; then it is killed. 10 s when not given. */
	readonly jobGraceMs?: number;
	/** Whether the work of one sequence number is done once only. A host enables again at each of its starts. */
	readonly once?: boolean;
	/** Whether the secrets are taken out of the settings file after they were read. */
	readonly blankProtectedSettings?: boolean;
	/** While the job runs; for a manifest with `reportHeartbeat`. */
	heartbeat?(): Awaitable<Heartbeat>;
};

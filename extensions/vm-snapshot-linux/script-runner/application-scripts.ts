import type { StillpointError } from "../../../contracts/errors.ts";
import type { ScriptSource } from "../../../contracts/report.ts";

/** One call of a script: program and arguments; no shell. */
export type ScriptStep = {
	readonly command: readonly string[];
	/** In the place of `command` in a post phase whose outcome is `no-snapshot` or `interrupted`. */
	readonly commandWithoutSnapshot?: readonly string[];
	/** All attempts together; of a session: until `ready`, and again from `release` to its end. */
	readonly deadlineMs: number;
	/** Attempts after the first. */
	readonly retries: number;
};

/** The scripts of one application, whatever kind of configuration names them. */
export type ApplicationScripts = {
	/** Unique in a job: of a drop-in the file name without `.json`. */
	readonly name: string;
	/** Stands in the report. */
	readonly application: string;
	readonly source: ScriptSource;
	/** Ascending for pre and session start; descending for release and post. */
	readonly order: number;
	readonly onFailure: "fail" | "continue";
	/** User; absent: root. */
	readonly runAs?: string;
	/** Either a session or a pre, or only a post. */
	readonly session?: ScriptStep;
	readonly pre?: ScriptStep;
	readonly post?: ScriptStep;
	/** `pre` or `session` knows `--dry-run`. */
	readonly dryRun: boolean;
	/**
	 * Made for a host that ends nothing: what a pre that ended well leaves running (a client that holds a lock) stays until
	 * its post has ended. Of others it is ended with the script.
	 */
	readonly keepsProcesses: boolean;
	/** Group and others must have no access at all: the rule of Azure's extension. */
	readonly ownerOnly: boolean;
};

/** A configuration that says nothing that could be run. It is an application that can't be proved quiet. */
export type BadScripts = {
	readonly name: string;
	readonly source: ScriptSource;
	readonly error: StillpointError;
	/** Its own word, where that could still be read. */
	readonly onFailure: "fail" | "continue";
};

/** Rejects with `script-untrusted` when someone who is not root could change the path. */
export type CheckTrust = (path: string) => Promise<void>;

import type { HandlerHost } from "./handler-host.ts";

export type TestSettings = {
	readonly publicSettings?: unknown;
	readonly protectedSettings?: unknown;
	/** Public settings that the handler must refuse. */
	readonly wrongPublicSettings?: unknown;
	/** Files in the package that must not change when enable is repeated: what the work leaves behind. */
	readonly unchanged?: readonly string[] | undefined;
	/** How long the work may take until its status says an end. */
	readonly statusLimitMs?: number | undefined;
};

export type CheckRun = {
	readonly host: HandlerHost;
	readonly packageFolder: string;
	readonly workFolder: string;
	readonly settings: TestSettings;
	readonly secrets: readonly string[];
	/** Where a secret stood: files, command lines. */
	readonly leaks: ReadonlySet<string>;
};

export type Check = {
	readonly name: string;
	/** What to do when it failed. */
	readonly remedy: string;
	/** Without it the rest says nothing. */
	readonly isVital?: boolean;
	/** Why it has nothing to look at. */
	skip?(run: CheckRun): string | undefined;
	/** What is wrong; nothing when all is right. What it throws is wrong, too. */
	act(run: CheckRun): Promise<string | undefined>;
};

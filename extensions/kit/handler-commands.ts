import { constants } from "node:fs";
import { open } from "node:fs/promises";
import { join } from "node:path";
import { StillpointError } from "../../contracts/errors.ts";
import { handlerEnvironmentFileSchema } from "../../contracts/extension.ts";
import { writeHandlerStatus } from "./handler-status.ts";

export const handlerCommands = ["install", "enable", "disable", "update", "uninstall"] as const;
export type HandlerCommandName = (typeof handlerCommands)[number];

export function isHandlerCommand(word: string | undefined): word is HandlerCommandName {
	return handlerCommands.some((name) => name === word);
}

export type HandlerCommand = {
	readonly name: HandlerCommandName;
	/** The installed package: HandlerEnvironment.json lies in it. */
	readonly packageFolder: string;
	/** Azure's ConfigSequenceNumber; the status file is named for it. */
	readonly sequenceNumber: string | undefined;
	readonly handlerName: string;
	/** Whether the extension can do its work on this machine; throws when it can't. */
	readonly check: () => Promise<void>;
	readonly now: () => Date;
};

const maxEnvironmentBytes = 256 * 1024;

const whatItDid: Readonly<Record<HandlerCommandName, string>> = {
	install: "nothing to install: the package is complete",
	enable: "ready: snapshots are made by the host's snapshot command",
	disable: "nothing to stop: the extension runs only while a snapshot is made",
	update: "nothing to carry over: the extension keeps no state",
	uninstall: "nothing to remove: the extension keeps nothing outside its package",
};

/**
 * The lifecycle of an extension that keeps no state and runs only during a snapshot. `install` and `enable` fail when
 * the machine can't do it; `enable` says so in its status file too. Returns what to say.
 * @throws what `check` throws, `extension-invalid` when HandlerEnvironment.json is not one.
 */
export async function runHandlerCommand(command: HandlerCommand): Promise<string> {
	const message = whatItDid[command.name];
	if (command.name === "install") await command.check();
	if (command.name !== "enable") return message;
	const { statusFolder } = await readHandlerEnvironment(command.packageFolder);
	const path = join(statusFolder, `${statusName(command.sequenceNumber)}.status`);
	const status = { name: command.handlerName, operation: "Enable" };
	try {
		await command.check();
	} catch (error) {
		const why = error instanceof Error ? error.message : String(error);
		await writeHandlerStatus(path, { ...status, status: "error", code: 1009, message: why }, command.now());
		throw error;
	}
	await writeHandlerStatus(path, { ...status, status: "success", code: 0, message }, command.now());
	return message;
}

async function readHandlerEnvironment(packageFolder: string) {
	const path = join(packageFolder, "HandlerEnvironment.json");
	const invalid = (what: string, cause?: unknown) =>
		new StillpointError("extension-invalid", `${path} ${what}`, { ...(cause === undefined ? {} : { cause }) });
	const bytes = await readLimited(path).catch((cause: Error) => {
		throw invalid(cause.message, cause);
	});
	let content: unknown;
	try {
		content = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
	} catch (cause) {
		throw invalid(cause instanceof SyntaxError ? `is no JSON: ${cause.message}` : "is not UTF-8", cause);
	}
	const parsed = handlerEnvironmentFileSchema.safeParse(content);
	const issue = parsed.error?.issues[0];
	if (issue !== undefined) throw invalid(`: ${issue.path.join(".")}: ${issue.message}`);
	const [first] = parsed.data ?? [];
	if (first === undefined) throw invalid("is empty");
	return first.handlerEnvironment;
}

/** Never waits for a FIFO. */
async function readLimited(path: string): Promise<Buffer> {
	await using file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
	const stats = await file.stat();
	if (!stats.isFile()) throw new Error("is not a regular file");
	if (stats.size > maxEnvironmentBytes) throw new Error(`is larger than ${maxEnvironmentBytes} bytes`);
	return await file.readFile();
}

/** It becomes a file name. */
function statusName(sequenceNumber: string | undefined): string {
	return sequenceNumber !== undefined && /^\d{1,10}$/.test(sequenceNumber) ? sequenceNumber : "0";
}

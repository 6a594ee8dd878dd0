import { join } from "node:path";
import { readHandlerEnvironment } from "./handler-environment.ts";
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

/** It becomes a file name. */
function statusName(sequenceNumber: string | undefined): string {
	return sequenceNumber !== undefined && /^\d{1,10}$/.test(sequenceNumber) ? sequenceNumber : "0";
}

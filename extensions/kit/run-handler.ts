import { StillpointError, worstError } from "../../contracts/errors.ts";
import { type DetachedJob, endDetachedJobs } from "./detached-job.ts";
import { enableHandler } from "./enable-handler.ts";
import type { Handler, HandlerContext, Outcome } from "./handler.ts";
import { handlerCommands, isHandlerCommand } from "./handler-commands.ts";
import type { HandlerProcess } from "./handler-process.ts";
import { statusFilePath } from "./handler-status.ts";
import { type OpenedHandler, openHandlerContext } from "./open-handler-context.ts";
import { runHandlerJob } from "./run-handler-job.ts";
import { findStatus, openStatusReporter } from "./status-reporter.ts";

const now = () => new Date();

/**
 * The entry of an extension: `process.exitCode = await runHandler(handler, process)`. Runs the command that the host put
 * on the command line (`node handler.ts enable`). Returns the exit status: 0 only when the command returned.
 */
export async function runHandler(handler: Handler, entry: HandlerProcess): Promise<number> {
	const command = entry.argv[2];
	if (!isHandlerCommand(command) && command !== "job") {
		entry.stderr.write(`usage: ${entry.argv[1] ?? "handler"} ${handlerCommands.join(" | ")}\n`);
		return 2;
	}
	const fail = (thrown: unknown, mask: (text: string) => string) => {
		entry.stderr.write(`${command} failed: ${mask(messageOf(thrown))}\n`);
		return thrown instanceof StillpointError ? worstError(thrown).traits.exit : 1;
	};
	let opened: OpenedHandler;
	try {
		opened = await openHandlerContext(entry, now);
	} catch (thrown) {
		return fail(thrown, (text) => text);
	}
	const { context, mask } = opened;
	try {
		await context.log(`${command} begins`);
		const said = mask(await act(command, handler, { ...opened, entry }));
		await context.log(`${command} ended: ${said}`);
		entry.stdout.write(`${said}\n`);
		return 0;
	} catch (thrown) {
		await context.log(`${command} failed: ${messageOf(thrown)}`);
		return fail(thrown, mask);
	} finally {
		entry.stdin.destroy();
	}
}

async function act(
	command: "install" | "enable" | "disable" | "update" | "uninstall" | "job",
	handler: Handler,
	given: OpenedHandler & { entry: HandlerProcess },
): Promise<string> {
	if (command === "enable") return enableHandler(handler, { ...given, now });
	if (command === "job") return runHandlerJob(handler, { ...given, now });
	// Before the author's own command: what it takes away may be in use by the job.
	if (command !== "install") {
		const extensionName = given.entry.env["ConfigExtensionName"] || undefined;
		const { packageFolder } = given.context;
		const ended = await endDetachedJobs(packageFolder, {
			extensionName: command === "disable" ? extensionName : undefined,
			graceMs: handler.jobGraceMs,
		});
		for (const job of ended) await closeStatus(given.context, job, command);
	}
	return messageOfOutcome(await handler[command]?.(given.context), command);
}

/** A job that was ended had no time for a last word, maybe. */
async function closeStatus(context: HandlerContext, job: DetachedJob, command: string): Promise<void> {
	const path = statusFilePath(context.environment.statusFolder, job);
	if ((await findStatus(path)) !== "transitioning") return;
	const status = openStatusReporter({ path, name: context.name, operation: "Job", now, protectedSettings: {} });
	await status.report({ status: "error", code: 1010, message: `ended by ${command} before it was done` });
}

function messageOfOutcome(outcome: Outcome, command: string): string {
	if (outcome === undefined) return `${command} is done`;
	if (typeof outcome === "string") return outcome;
	if (outcome.status === "error") throw new Error(outcome.message);
	return outcome.message;
}

function messageOf(thrown: unknown): string {
	return thrown instanceof Error ? thrown.message : String(thrown);
}

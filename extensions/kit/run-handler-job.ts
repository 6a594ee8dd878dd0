import { text } from "node:stream/consumers";
import { StillpointError } from "../../contracts/errors.ts";
import type { Handler, StatusReport } from "./handler.ts";
import type { HandlerProcess } from "./handler-process.ts";
import type { HandlerSettings } from "./handler-settings.ts";
import { statusFilePath } from "./handler-status.ts";
import { keepHeartbeat } from "./heartbeat-file.ts";
import type { OpenedHandler } from "./open-handler-context.ts";
import { openStatusReporter } from "./status-reporter.ts";

/** What `enable` hands to the process of the job, by stdin. */
export type JobInput = { readonly settings: HandlerSettings };

/** Azure has no code for work that outlives enable; this is enable's. */
const jobFailed = 1009;

/**
 * The process of a job: runs it, keeps its heartbeat and its status fresh, and says its end in the status file. When
 * it is asked to end (disable), what it said last stays if that was an end.
 */
export async function runHandlerJob(
	handler: Handler,
	given: OpenedHandler & { readonly entry: HandlerProcess; readonly now: () => Date },
): Promise<string> {
	const { context } = given;
	const settings = parseInput(await text(given.entry.stdin));
	given.keepSecret(settings.protectedSettings);
	const status = openStatusReporter({
		path: statusFilePath(context.environment.statusFolder, settings),
		name: context.name,
		operation: "Job",
		now: given.now,
		protectedSettings: settings.protectedSettings,
	});
	const ended = new AbortController();
	const { heartbeat } = handler;
	void status.repeat(ended.signal);
	if (heartbeat) void keepHeartbeat(context.environment.heartbeatFile, () => heartbeat(), { signal: ended.signal });
	let end: StatusReport;
	try {
		await status.report({ status: "transitioning", message: "the job runs" });
		const outcome = await handler.job?.({ ...context, settings, report: status.report });
		end = typeof outcome === "object" ? outcome : { status: "success", message: outcome ?? "the job is done" };
	} catch (error) {
		end = { status: "error", code: jobFailed, message: error instanceof Error ? error.message : String(error) };
	} finally {
		ended.abort();
	}
	// A service that ran until it was asked to end did not fail.
	if (context.signal.aborted && status.isTerminal()) return "asked to end";
	await status.report(end);
	if (end.status === "error") throw new Error(end.message);
	return end.message;
}

/** It is cut short when the command that started it was ended before it was written down. */
function parseInput(input: string): HandlerSettings {
	try {
		return (JSON.parse(input) as JobInput).settings;
	} catch {
		throw new StillpointError("asker-lost", "the job was started by nobody: its input is no whole JSON");
	}
}

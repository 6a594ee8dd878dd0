import { join } from "node:path";
import { blankProtectedSettings } from "./blank-protected-settings.ts";
import { endDetachedJobs, findDetachedJob, startDetachedJob } from "./detached-job.ts";
import type { Handler, Outcome, StatusReport } from "./handler.ts";
import type { HandlerProcess } from "./handler-process.ts";
import { findHandlerSettings, type HandlerSettings } from "./handler-settings.ts";
import { statusFilePath } from "./handler-status.ts";
import { instancePrefix, parseSequenceNumber } from "./instance-name.ts";
import { mostRecentSequence } from "./most-recent-sequence.ts";
import type { OpenedHandler } from "./open-handler-context.ts";
import type { JobInput } from "./run-handler-job.ts";
import { findStatus, openStatusReporter, type StatusReporter } from "./status-reporter.ts";

/** The author's own error, which stands in the status already. */
class EndedByOutcome extends Error {}

/** Azure's code of a failed enable. */
const enableFailed = 1009;

type Given = OpenedHandler & { readonly entry: HandlerProcess; readonly now: () => Date };

/**
 * Reads the settings, runs the author's `enable`, starts the job if there is one. Whatever fails stands in the status
 * file too. Repeated for the same sequence number it does nothing twice: a job that lives is left alone, and a handler
 * that does its work once is not run again.
 */
export async function enableHandler(handler: Handler, given: Given): Promise<string> {
	const { context, entry, now } = given;
	const { packageFolder } = context;
	const extensionName = entry.env["ConfigExtensionName"] || undefined;
	const told = parseSequenceNumber(entry.env["ConfigSequenceNumber"]);
	const open = (sequenceNumber: number, protectedSettings: HandlerSettings["protectedSettings"]) =>
		openStatusReporter({
			path: statusFilePath(context.environment.statusFolder, { sequenceNumber, extensionName }),
			name: context.name,
			operation: "Enable",
			now,
			protectedSettings,
		});
	let settings: HandlerSettings;
	try {
		settings = (await findHandlerSettings(packageFolder, { sequenceNumber: told, extensionName })) ?? {
			sequenceNumber: told ?? 0,
			extensionName,
			publicSettings: {},
			protectedSettings: {},
			settingsFile: "",
		};
	} catch (error) {
		await tellFailure(open(told ?? 0, {}), error);
		throw error;
	}
	const { sequenceNumber, protectedSettings } = settings;
	given.keepSecret(protectedSettings);
	const status = open(sequenceNumber, protectedSettings);
	try {
		return await enable(handler, { ...given, settings, status });
	} catch (error) {
		await tellFailure(status, error);
		throw error;
	}
}

async function enable(
	handler: Handler,
	given: Given & { settings: HandlerSettings; status: StatusReporter },
): Promise<string> {
	const { context, settings, status, entry } = given;
	const { packageFolder, environment } = context;
	const { sequenceNumber, extensionName } = settings;
	const running = handler.job && (await findDetachedJob(packageFolder, extensionName));
	if (running?.sequenceNumber === sequenceNumber) return `the job of sequence number ${sequenceNumber} runs already`;
	const sequence = mostRecentSequence(packageFolder, extensionName);
	if (handler.once && (await sequence.alreadyDone(sequenceNumber))) {
		const before = await findStatus(statusFilePath(environment.statusFolder, settings));
		if (before !== undefined && before !== "transitioning") return `sequence number ${sequenceNumber} is done already`;
		const message = `sequence number ${sequenceNumber} was begun before and did not end; it is not begun twice`;
		await status.report({ status: "error", code: enableFailed, message });
		return message;
	}
	if (running !== undefined) await endDetachedJobs(packageFolder, { extensionName, graceMs: handler.jobGraceMs });
	await status.report({ status: "transitioning", message: "enabling" });
	await sequence.begin(sequenceNumber);
	if (handler.blankProtectedSettings && settings.settingsFile !== "")
		await blankProtectedSettings(settings.settingsFile);
	const ended = new AbortController();
	void status.repeat(ended.signal);
	let outcome: Outcome;
	try {
		outcome = await handler.enable?.({ ...context, settings, report: status.report });
	} finally {
		ended.abort();
	}
	const end: StatusReport =
		typeof outcome === "object" ? outcome : { status: "success", message: outcome ?? "enabled" };
	if (handler.job === undefined || end.status === "error") {
		await status.report(end);
		if (end.status === "error") throw new EndedByOutcome(end.message);
		return end.message;
	}
	await status.report({ status: "transitioning", message: outcome === undefined ? "the job begins" : end.message });
	const [, script = ""] = entry.argv;
	const input: JobInput = { settings };
	await startDetachedJob({
		packageFolder,
		command: [entry.execPath, ...entry.execArgv, script, "job"],
		variables: entry.env,
		input: JSON.stringify(input),
		outputFile: join(environment.logFolder, `${instancePrefix(extensionName)}job-output.log`),
		sequenceNumber,
		extensionName,
	});
	return "the job was started";
}

async function tellFailure(status: StatusReporter, error: unknown): Promise<void> {
	if (error instanceof EndedByOutcome) return;
	// When the status cannot be written either, the exit status and stderr still tell.
	await status.report({ status: "error", code: enableFailed, message: messageOf(error) }).catch(() => undefined);
}

function messageOf(error: unknown): string {
	return error instanceof Error ? error.message : String(error);
}

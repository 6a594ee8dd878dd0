import { type Command, Option } from "commander";
import type { ControllerJob } from "../../../contracts/controller-messages.ts";
import { StillpointError } from "../../../contracts/errors.ts";
import { atLeast, levels } from "../../../contracts/level.ts";
import type { Order } from "../../../contracts/order.ts";
import type { ControllerClient } from "../../../controller/client.ts";
import type { CommandContext } from "../../command-context.ts";
import { addControllerOptions, type ControllerOptions, connectToController } from "../../controller-access.ts";
import { printResult, tellError } from "../../output.ts";
import { parseCount } from "../../parse-count.ts";
import { makeProgress } from "../../progress.ts";
import { renderJob, renderStep } from "../../render-job.ts";
import type { Act } from "../../run-command-line.ts";
import { stallBudgetText, stallOf, stallWaitText } from "../../stall-options.ts";

/** After a cancel the job is waited for this long; it is undone all the same when nobody waits. */
const cancelLimitMs = 30_000;

type Options = ControllerOptions & {
	level: Order["level"];
	accept: Order["acceptLevel"];
	disk: string[];
	limitMs: number;
	prepareLimitMs: number;
	stallBudgetMs?: number;
	stallWaitMs?: number;
	jobId?: string;
	follow?: boolean;
};

export function addSnapshotCommand(controller: Command, context: CommandContext, act: Act): void {
	const wanted = levels.slice(1);
	const many = (value: string, before: string[]) => [...before, value];
	addControllerOptions(controller.command("snapshot").description("order a snapshot and wait for its recovery point"))
		.argument("<agent>", "agent id")
		.addOption(new Option("--level <level>", "level asked for").choices(wanted).default("application"))
		.addOption(new Option("--accept <level>", "lowest level accepted").choices(wanted).default("file-system"))
		.option("--disk <name>", "only these disks (may be repeated); default: every mapped disk", many, [])
		.option("--limit-ms <ms>", "hold limit", parseCount(100, 900_000), 10_000)
		.option(
			"--prepare-limit-ms <ms>",
			"from the order to the freeze; all scripts together have this long",
			parseCount(1_000, 3_600_000),
			120_000,
		)
		.option("--stall-budget-ms <ms>", stallBudgetText, parseCount(1, 900_000))
		.option("--stall-wait-ms <ms>", stallWaitText, parseCount(0, 3_600_000))
		.option("--job-id <id>", "id of the job; the same id is never run twice")
		.option(
			"--follow",
			"tell of every change as it happens (default on a terminal); --no-follow asks from time to time",
		)
		.addOption(new Option("--no-follow").hideHelp())
		.action((agentId: string, options: Options) =>
			act(options, async () => {
				using api = await connectToController(options);
				const { jobId } = await api.orderSnapshot(agentId, {
					level: options.level,
					acceptLevel: atLeast(options.accept, options.level) ? options.level : options.accept,
					holdLimitMs: options.limitMs,
					prepareLimitMs: options.prepareLimitMs,
					...stallOf(options),
					...(options.disk.length > 0 ? { disks: { include: options.disk } } : {}),
					...(options.jobId === undefined ? {} : { jobId: options.jobId }),
				});
				const job = await waitOrCancel(api, jobId, options, context);
				printResult(context, options.json === true, job, renderJob);
				if (job.error)
					return tellError(context, options.json === true, new StillpointError(job.error.code, job.error.message));
				return job.level === options.level ? 0 : 3;
			}),
		);
}

/** A signal cancels the job and waits for its end, but not for ever. */
async function waitOrCancel(
	api: ControllerClient,
	jobId: string,
	options: Options,
	context: CommandContext,
): Promise<ControllerJob> {
	const overdue = new AbortController();
	using progress = makeProgress(context, options.json === true);
	using timers = new DisposableStack();
	const cancel = () => {
		const giveUp = (cause?: unknown) =>
			overdue.abort(new StillpointError("terminated", `job ${jobId} was told to end, its end was not seen`, { cause }));
		const timer = setTimeout(giveUp, cancelLimitMs);
		timers.defer(() => clearTimeout(timer));
		api.cancelJob(jobId).catch(giveUp);
	};
	if (context.stopping.aborted) cancel();
	context.stopping.addEventListener("abort", cancel, { once: true });
	timers.defer(() => context.stopping.removeEventListener("abort", cancel));
	const wait = (options.follow ?? context.isTerminal) ? api.followJob : api.waitForJob;
	return await wait(jobId, {
		signal: overdue.signal,
		onChange: (job) => progress.say(renderStep(job)),
	});
}

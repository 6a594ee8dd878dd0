import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { type Command, Option } from "commander";
import { checkShape } from "../../contracts/check-shape.ts";
import { asStillpointError, StillpointError } from "../../contracts/errors.ts";
import type { HoldEvent } from "../../contracts/hold-protocol.ts";
import { atLeast, levels } from "../../contracts/level.ts";
import { type Order, orderSchema } from "../../contracts/order.ts";
import type { Report } from "../../contracts/report.ts";
import type { CommandContext } from "../command-context.ts";
import { type HeldCommand, prepareHeldCommand } from "../held-command.ts";
import { Inbox } from "../inbox.ts";
import { printable } from "../layout.ts";
import { addLocalAgentOptions, connectLocalAgent } from "../local-agent.ts";
import { printResult, tellError } from "../output.ts";
import { parseCount } from "../parse-count.ts";
import { makeProgress } from "../progress.ts";
import { renderReport } from "../render-report.ts";
import type { Act } from "../run-command-line.ts";
import { stallBudgetText, stallOf, stallWaitText } from "../stall-options.ts";

/** How long the agent may take, after it was told to cancel, until its report comes. */
const cancelLimitMs = 30_000;

type Options = {
	runDir: string;
	json?: boolean;
	level: Order["level"];
	accept: Order["acceptLevel"];
	disk: string[];
	exclude: string[];
	holdMs: number;
	limitMs: number;
	prepareLimitMs: number;
	stallBudgetMs?: number;
	stallWaitMs?: number;
	run?: string;
	jobId?: string;
};

export function addSnapshotCommand(program: Command, context: CommandContext, act: Act): void {
	const wanted = levels.slice(1);
	const many = (value: string, before: string[]) => [...before, value];
	addLocalAgentOptions(
		program
			.command("snapshot")
			.description("hold the disks of this machine still while a command takes the snapshot, then let go")
			.addOption(new Option("--level <level>", "level asked for").choices(wanted).default("application"))
			.addOption(new Option("--accept <level>", "lowest level accepted").choices(wanted).default("file-system"))
			.addOption(
				new Option("--disk <name>", "only these disks, by kernel name or serial:TEXT (may be repeated)")
					.argParser(many)
					.default([], "all"),
			)
			.addOption(
				new Option("--exclude <name>", "all disks but these (may be repeated)").argParser(many).default([], "none"),
			)
			.option("--hold-ms <ms>", "how long to hold when there is no --run", parseCount(0, 900_000), 100)
			.option(
				"--limit-ms <ms>",
				"hold limit: everything is thawed by then, whatever happens",
				parseCount(100, 900_000),
				10_000,
			)
			.option(
				"--prepare-limit-ms <ms>",
				"from the order to the freeze; all scripts together have this long",
				parseCount(1_000, 3_600_000),
				120_000,
			)
			.option("--stall-budget-ms <ms>", stallBudgetText, parseCount(1, 900_000))
			.option("--stall-wait-ms <ms>", stallWaitText, parseCount(0, 3_600_000))
			.option("--run <command>", "shell command that takes the snapshot while the disks are still; exit 0 means taken")
			.option("--job-id <id>", "id of the job; the same id is never run twice"),
		context,
	).action((options: Options) => act(options, () => snapshot(options, context)));
}

/**
 * The command line is the asker. It cannot prove which disks a command copied, so the report's `achieved` is null and
 * `held` says what the hold was worth.
 */
async function snapshot(options: Options, context: CommandContext): Promise<number> {
	const order = parseOrder(options);
	const inbox = new Inbox();
	const gone = new AbortController();
	const ending = AbortSignal.any([context.stopping, gone.signal]);
	await using agent = await connectLocalAgent(options.runDir, context.stopping, {
		command: "snapshot",
		onNotification: (_name, params) => inbox.put(params),
		onClosed: () => {
			const what = "the agent went away during the job; what is left frozen is thawed by: stillpoint thaw";
			inbox.close(new StillpointError("agent-unreachable", what));
			gone.abort();
		},
	});
	using progress = makeProgress(context, options.json === true);
	// One that hangs is found out in seconds; the answer to an order may take as long as the order may wait.
	await agent.call("job.list", { limit: 1 }, { limitMs: 5_000 }).catch((error: unknown) => {
		if (asStillpointError(error).code === "agent-unreachable") throw error;
	});
	const answer = await agent.call("job.order", { order }, { limitMs: order.startWithinMs + 5_000 });
	if (answer.type === "refused") throw new StillpointError(answer.error.code, answer.error.message);
	if (answer.repeated && answer.report) return finish(answer.report, options, context);
	// A command that the job no longer takes is no fault: what became of the job comes as its report.
	const tell = async (command: Parameters<typeof agent.call<"job.command">>[1]["command"]) =>
		void (await agent.call("job.command", { command }, { limitMs: 5_000 }).catch(() => {}));
	const cancel = () => {
		void tell({ type: "cancel", jobId: order.jobId, code: "cancelled" });
		const overdue = new StillpointError(
			"terminated",
			"the agent did not say what became of the job: see stillpoint status",
		);
		setTimeout(() => inbox.close(overdue), cancelLimitMs).unref();
	};
	if (context.stopping.aborted) cancel();
	context.stopping.addEventListener("abort", cancel, { once: true });
	// It is repeated while it lasts, from more than one side.
	let toldStuck = "";
	const tellStuck = ({ fileSystems, error }: Extract<HoldEvent, { type: "stuck" }>) => {
		const text = printable(`stuck: ${fileSystems.join(", ")} may still be frozen. ${error.remedy ?? error.message}`);
		if (text !== toldStuck) context.stderr(`${text}\n`);
		toldStuck = text;
	};
	await using command = options.run === undefined ? undefined : prepareHeldCommand(options.run);
	for (;;) {
		const one = await inbox.next();
		if (one.type === "report") {
			progress.clear();
			return finish(one.report, options, context);
		}
		const { event } = one;
		switch (event.type) {
			case "phase":
				progress.say(event.phase);
				break;
			case "prepared":
				progress.say("holding: nothing is printed until the thaw");
				progress.hold();
				// How long a command will take nobody knows.
				await tell({
					type: "freeze",
					jobId: order.jobId,
					...(options.run === undefined ? { predictedMs: options.holdMs } : {}),
				});
				break;
			case "frozen": {
				const error = await takeSnapshot(command, options.holdMs, event.leftMs, ending);
				if (ending.aborted) break;
				await tell({ type: "release", jobId: order.jobId, ...(error ? { error: error.toJSON() } : {}) });
				break;
			}
			case "stuck":
				tellStuck(event);
				break;
			case "thawed":
				progress.release();
				break;
		}
	}
}

async function takeSnapshot(
	command: HeldCommand | undefined,
	holdMs: number,
	leftMs: number,
	stopping: AbortSignal,
): Promise<StillpointError | undefined> {
	// The command is ended a little before the agent thaws by itself, so that it can still be told why.
	const limitMs = Math.max(1, Math.floor(leftMs - Math.min(250, leftMs / 4)));
	const limit = AbortSignal.any([stopping, AbortSignal.timeout(limitMs)]);
	if (command !== undefined) return command.run(limit);
	await sleep(holdMs, undefined, { signal: limit }).catch(() => {});
	return undefined;
}

const optionOf: Readonly<Record<string, string>> = {
	jobId: "--job-id",
	level: "--level",
	acceptLevel: "--accept",
	disks: "--disk, --exclude",
	holdLimitMs: "--limit-ms",
	prepareLimitMs: "--prepare-limit-ms",
	stall: "--stall-budget-ms, --stall-wait-ms",
};

function parseOrder(options: Options): Order {
	if (options.disk.length > 0 && options.exclude.length > 0)
		throw new StillpointError("usage-invalid", "--disk and --exclude cannot be used together");
	if (options.run === undefined && options.holdMs > options.limitMs)
		throw new StillpointError(
			"usage-invalid",
			`--hold-ms ${options.holdMs} is longer than --limit-ms ${options.limitMs}`,
		);
	const disks =
		options.disk.length > 0
			? { include: options.disk }
			: options.exclude.length > 0
				? { exclude: options.exclude }
				: ("all" as const);
	const parsed = checkShape(orderSchema, {
		jobId: options.jobId ?? randomUUID(),
		level: options.level,
		acceptLevel: atLeast(options.accept, options.level) ? options.level : options.accept,
		disks,
		holdLimitMs: options.limitMs,
		prepareLimitMs: options.prepareLimitMs,
		...stallOf(options),
		snapshot: "unknown",
	});
	if (parsed.success) return parsed.data;
	const issue = parsed.error.issues[0];
	const option = optionOf[String(issue?.path[0])] ?? "order";
	throw new StillpointError("usage-invalid", `${option}: ${issue?.message ?? "invalid"}`);
}

function finish(report: Report, options: Options, context: CommandContext): number {
	printResult(context, options.json === true, report, renderReport);
	if (report.error)
		return tellError(context, options.json === true, new StillpointError(report.error.code, report.error.message));
	return (report.achieved ?? report.held) === report.requested ? 0 : 3;
}

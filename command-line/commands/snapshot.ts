import { randomUUID } from "node:crypto";
import { type Command, Option } from "commander";
import { asStillpointError, StillpointError } from "../../contracts/errors.ts";
import { type HoldEvent, holdEventSchema } from "../../contracts/hold-protocol.ts";
import { levels } from "../../contracts/level.ts";
import { type Order, orderSchema } from "../../contracts/order.ts";
import { type Report, reportSchema } from "../../contracts/report.ts";
import type { CommandContext } from "../command-context.ts";
import { addLocalAgentOptions, connectLocalAgent } from "../local-agent.ts";
import { printResult } from "../output.ts";
import { renderReport } from "../render-report.ts";
import type { Act } from "../run-command-line.ts";

type Options = {
	runDir: string;
	json?: boolean;
	level: Order["level"];
	accept: Order["acceptLevel"];
	disk: string[];
	exclude: string[];
	holdMs: string;
	limitMs: string;
	run?: string;
	jobId?: string;
};

type Heard = { type: "event"; event: HoldEvent } | { type: "report"; report: Report };

export function addSnapshotCommand(program: Command, context: CommandContext, act: Act): void {
	const wanted = levels.slice(1);
	const many = (value: string, before: string[]) => [...before, value];
	addLocalAgentOptions(
		program
			.command("snapshot")
			.description("hold the disks of this machine still while a command takes the snapshot, then let go")
			.addOption(new Option("--level <level>", "level asked for").choices(wanted).default("application"))
			.addOption(new Option("--accept <level>", "lowest level accepted").choices(wanted).default("file-system"))
			.option("--disk <name>", "only these disks, by kernel name or serial:TEXT (may be repeated)", many, [])
			.option("--exclude <name>", "all disks but these (may be repeated)", many, [])
			.option("--hold-ms <ms>", "how long to hold when there is no --run", "100")
			.option("--limit-ms <ms>", "hold limit: everything is thawed by then, whatever happens", "10000")
			.option("--run <command>", "shell command that takes the snapshot while the disks are still; exit 0 means taken")
			.option("--job-id <id>", "id of the job; the same id is never run twice"),
	).action((options: Options) => act(options, () => snapshot(options, context)));
}

/**
 * The command line is the asker. It cannot prove which disks a command copied, so the report's `achieved` is null and
 * `held` says what the hold was worth.
 */
async function snapshot(options: Options, context: CommandContext): Promise<number> {
	const order = parseOrder(options);
	const inbox = new Inbox();
	await using agent = await connectLocalAgent(options.runDir, context.stopping, {
		onNotification: (_name, params) => inbox.put(params),
		onClosed: () => inbox.close(new StillpointError("agent-unreachable", "the agent went away during the job")),
	});
	const progress = (text: string) => {
		if (!options.json) context.stderr(`${text}\n`);
	};
	const answer = await agent.call("job.order", { order }, { limitMs: order.startWithinMs + 5_000 });
	if (answer.type === "refused") throw new StillpointError(answer.error.code, answer.error.message);
	if (answer.repeated && answer.report) return finish(answer.report, options, context);
	context.stopping.addEventListener("abort", () => {
		agent
			.call("job.command", { command: { type: "cancel", jobId: order.jobId, code: "cancelled" } }, { limitMs: 5_000 })
			.catch(() => {});
	});
	for (;;) {
		const one = await inbox.next();
		if (one.type === "report") return finish(one.report, options, context);
		const { event } = one;
		switch (event.type) {
			case "phase":
				progress(event.phase);
				break;
			case "prepared":
				await agent.call("job.command", { command: { type: "freeze", jobId: order.jobId } }, { limitMs: 5_000 });
				break;
			case "frozen": {
				const error = await takeSnapshot(options, event.leftMs, context);
				const failure = error === undefined ? {} : { error: error.toJSON() };
				await agent.call(
					"job.command",
					{ command: { type: "release", jobId: order.jobId, ...failure } },
					{ limitMs: 5_000 },
				);
				break;
			}
			case "stuck":
				context.stderr(`stuck: ${event.fileSystems.join(", ")}: ${event.error.message}\n`);
				break;
			case "thawed":
				break;
		}
	}
}

async function takeSnapshot(
	options: Options,
	leftMs: number,
	context: CommandContext,
): Promise<StillpointError | undefined> {
	const limit = AbortSignal.any([context.stopping, AbortSignal.timeout(Math.max(1, leftMs - 250))]);
	if (options.run === undefined) {
		const { setTimeout: wait } = await import("node:timers/promises");
		await wait(Math.min(Number(options.holdMs), leftMs), undefined, { signal: limit }).catch(() => {});
		return undefined;
	}
	const { execa } = await import("execa");
	const result = await execa(options.run, {
		shell: true,
		reject: false,
		cancelSignal: limit,
		killDescendants: true,
		forceKillAfterDelay: 500,
		stdio: ["ignore", "ignore", "inherit"],
	});
	if (result.exitCode === 0) return undefined;
	return new StillpointError("snapshot-failed", `the command of --run: ${result.shortMessage ?? "failed"}`);
}

function parseOrder(options: Options): Order {
	if (options.disk.length > 0 && options.exclude.length > 0)
		throw new StillpointError("usage-invalid", "--disk and --exclude cannot be used together");
	const disks =
		options.disk.length > 0
			? { include: options.disk }
			: options.exclude.length > 0
				? { exclude: options.exclude }
				: ("all" as const);
	const parsed = orderSchema.safeParse({
		jobId: options.jobId ?? randomUUID(),
		level: options.level,
		acceptLevel: options.level === "crash" ? "crash" : options.accept,
		disks,
		holdLimitMs: Number(options.limitMs),
		snapshot: "unknown",
	});
	if (parsed.success) return parsed.data;
	const issue = parsed.error.issues[0];
	throw new StillpointError("usage-invalid", `${issue?.path.join(".") ?? ""}: ${issue?.message ?? "invalid"}`);
}

function finish(report: Report, options: Options, context: CommandContext): number {
	printResult(context, options.json === true, report, renderReport);
	if (report.error) return asStillpointError(new StillpointError(report.error.code, report.error.message)).traits.exit;
	const reached = report.achieved ?? report.held;
	return reached === report.requested ? 0 : 3;
}

/** What the agent pushed, in order, for one reader. */
class Inbox {
	readonly #waiting: Heard[] = [];
	#closed: StillpointError | undefined;
	#wake: () => void = () => {};

	put(params: unknown): void {
		const event = holdEventSchema.safeParse(params);
		const heard: Heard = event.success
			? { type: "event", event: event.data }
			: { type: "report", report: reportSchema.parse((params as { report: unknown }).report) };
		this.#waiting.push(heard);
		this.#wake();
	}

	close(error: StillpointError): void {
		this.#closed ??= error;
		this.#wake();
	}

	async next(): Promise<Heard> {
		for (;;) {
			const one = this.#waiting.shift();
			if (one) return one;
			if (this.#closed) throw this.#closed;
			await new Promise<void>((resolve) => {
				this.#wake = resolve;
			});
		}
	}
}

import { type Command, Option } from "commander";
import type { AgentRecord, ControllerJob } from "../../contracts/controller-messages.ts";
import { StillpointError } from "../../contracts/errors.ts";
import { atLeast, levels } from "../../contracts/level.ts";
import type { CommandContext } from "../command-context.ts";
import { humanBytes, humanMs, printResult, table, tellError } from "../output.ts";
import { parseCount } from "../parse-count.ts";
import { renderReport } from "../render-report.ts";
import { renderVerification } from "../render-verification.ts";
import type { Act } from "../run-command-line.ts";
import { stderrLog } from "../stderr-log.ts";

const defaultStateFolder = "/var/lib/stillpoint-controller";

type Common = { stateDir: string; json?: boolean };

export function addControllerCommands(program: Command, context: CommandContext, act: Act): void {
	const controller = program.command("controller").description("the reference controller and its agents");
	const common = (command: Command) =>
		command
			.option(
				"--state-dir <folder>",
				"state folder of the controller, which holds the operator's key",
				defaultStateFolder,
			)
			.option("--json", "print one JSON document");

	common(controller.command("run").description("run the controller in the foreground"))
		.option("--listen <host>", "address to listen on", "127.0.0.1")
		.option("--port <port>", "port to listen on; 0 takes a free one", parseCount(0, 65_535), 7443)
		.action((options: Common & { listen: string; port: number }) =>
			act(options, async () => {
				const { runController } = await import("../../controller/run-controller.ts");
				await runController({
					stateDir: options.stateDir,
					listenHost: options.listen,
					port: options.port,
					stopping: context.stopping,
					log: stderrLog(context),
					onReady: (info) => printResult(context, options.json === true, info, () => `controller ready at ${info.url}`),
				});
				return undefined;
			}),
		);

	common(controller.command("token").description("make a one-time token that enrols one agent"))
		.option("--valid-hours <hours>", "how long it may be used", parseCount(1, 720), 24)
		.action((options: Common & { validHours: number }) =>
			act(options, async () => {
				using api = await connect(options.stateDir);
				const token = await api.createToken(options.validHours * 3_600_000);
				printResult(context, options.json === true, token, () => token.token);
				return undefined;
			}),
		);

	const agents = controller.command("agents").description("the enrolled agents and their disks");
	// Options stand with each command below, not with the group: there they would be taken from the wrong place.
	common(agents.command("list", { isDefault: true }).description("list the enrolled agents")).action(
		(options: Common) =>
			act(options, async () => {
				using api = await connect(options.stateDir);
				const list = await api.listAgents();
				printResult(context, options.json === true, { agents: list }, () => renderAgents(list));
				return undefined;
			}),
	);
	common(
		agents
			.command("map")
			.description("say where the disks of an agent lie on the controller's host; replaces what was said before"),
	)
		.argument("<agent>", "agent id")
		.argument("<disk=path...>", "kernel name of the disk in the guest, and its image file or block device here")
		.action((agentId: string, disks: string[], options: Common) =>
			act(options, async () => {
				const mapping = disks.map(parseMapping);
				using api = await connect(options.stateDir);
				const record = await api.mapDisks(agentId, mapping);
				printResult(context, options.json === true, record, () => renderAgents([record]));
				return undefined;
			}),
		);
	for (const what of ["status", "inventory"] as const) {
		common(agents.command(what).description(`ask a connected agent for its ${what}`))
			.argument("<agent>", "agent id")
			.action((agentId: string, options: Common) =>
				act(options, async () => {
					using api = await connect(options.stateDir);
					const answer = what === "status" ? await api.readAgentStatus(agentId) : await api.readAgentInventory(agentId);
					printResult(context, options.json === true, answer as object, () => JSON.stringify(answer, undefined, 2));
					return undefined;
				}),
			);
	}

	const wanted = levels.slice(1);
	const many = (value: string, before: string[]) => [...before, value];
	common(controller.command("snapshot").description("order a snapshot and wait for its recovery point"))
		.argument("<agent>", "agent id")
		.addOption(new Option("--level <level>", "level asked for").choices(wanted).default("application"))
		.addOption(new Option("--accept <level>", "lowest level accepted").choices(wanted).default("file-system"))
		.option("--disk <name>", "only these disks (may be repeated); default: every mapped disk", many, [])
		.option("--limit-ms <ms>", "hold limit", parseCount(100, 900_000), 10_000)
		.option("--job-id <id>", "id of the job; the same id is never run twice")
		.action(
			(
				agentId: string,
				options: Common & {
					level: "application";
					accept: "file-system";
					disk: string[];
					limitMs: number;
					jobId?: string;
				},
			) =>
				act(options, async () => {
					using api = await connect(options.stateDir);
					const ordered = await api.orderSnapshot(agentId, {
						level: options.level,
						acceptLevel: atLeast(options.accept, options.level) ? options.level : options.accept,
						holdLimitMs: options.limitMs,
						...(options.disk.length > 0 ? { disks: { include: options.disk } } : {}),
						...(options.jobId === undefined ? {} : { jobId: options.jobId }),
					});
					const cancel = () => void api.cancelJob(ordered.jobId).catch(() => {});
					if (context.stopping.aborted) cancel();
					context.stopping.addEventListener("abort", cancel, { once: true });
					const job = await api.waitForJob(ordered.jobId, {
						onChange: (job) => {
							if (!options.json) context.stderr(`${job.state}\n`);
						},
					});
					printResult(context, options.json === true, job, renderJob);
					if (job.error)
						return tellError(context, options.json === true, new StillpointError(job.error.code, job.error.message));
					return job.level === options.level ? 0 : 3;
				}),
		);

	common(controller.command("cancel").description("cancel a job; everything is undone"))
		.argument("<job>", "job id")
		.action((jobId: string, options: Common) =>
			act(options, async () => {
				using api = await connect(options.stateDir);
				await api.cancelJob(jobId);
				printResult(context, options.json === true, { jobId }, () => `cancelling ${jobId}`);
				return undefined;
			}),
		);

	common(controller.command("jobs").description("list jobs, or show one"))
		.argument("[job]", "job id")
		.action((jobId: string | undefined, options: Common) =>
			act(options, async () => {
				using api = await connect(options.stateDir);
				if (jobId !== undefined) {
					printResult(context, options.json === true, await api.readJob(jobId), renderJob);
					return undefined;
				}
				const jobs = await api.listJobs();
				printResult(context, options.json === true, { jobs }, () =>
					table([
						["job", "agent", "state", "level", "ordered"],
						...jobs.map((job) => [job.jobId, job.agentId, job.state, job.level ?? "", job.orderedAt]),
					]),
				);
				return undefined;
			}),
		);

	common(controller.command("recovery-points").description("list recovery points"))
		.option("--agent <id>", "of this agent only")
		.action((options: Common & { agent?: string }) =>
			act(options, async () => {
				using api = await connect(options.stateDir);
				const recoveryPoints = await api.listRecoveryPoints(options.agent);
				printResult(context, options.json === true, { recoveryPoints }, () =>
					table([
						["recovery point", "agent", "level", "disks", "size", "created"],
						...recoveryPoints.map((point) => [
							point.id,
							point.agentId,
							point.level,
							String(point.disks.length),
							humanBytes(point.disks.reduce((sum, disk) => sum + disk.sizeBytes, 0)),
							point.createdAt,
						]),
					]),
				);
				return undefined;
			}),
		);

	common(controller.command("verify").description("look at the images of a recovery point: is it what its label says"))
		.argument("<recovery-point>", "id")
		.action((id: string, options: Common) =>
			act(options, async () => {
				using api = await connect(options.stateDir);
				const verification = await api.verifyRecoveryPoint(id);
				printResult(context, options.json === true, verification, renderVerification);
				return verification.agrees ? 0 : 3;
			}),
		);
}

async function connect(stateDir: string) {
	const { connectController } = await import("../../controller/client.ts");
	const { readOperatorFiles } = await import("../../controller/operator-files.ts");
	return connectController(await readOperatorFiles(stateDir));
}

function parseMapping(text: string): { name: string; image: string } {
	const at = text.indexOf("=");
	if (at < 1 || !text.slice(at + 1).startsWith("/"))
		throw new StillpointError("usage-invalid", `${text}: write DISK=/absolute/path`);
	return { name: text.slice(0, at), image: text.slice(at + 1) };
}

function renderAgents(list: readonly AgentRecord[]): string {
	const rows = list.map((one) => [
		one.agentId,
		one.machine.hostname,
		one.connected ? "connected" : "offline",
		one.disks.map((disk) => `${disk.name}=${disk.image}`).join(" ") || "no disks mapped",
	]);
	return table([["agent", "host", "link", "disks"], ...rows]);
}

function renderJob(job: ControllerJob): string {
	const lines = [
		`Job ${job.jobId} of agent ${job.agentId}: ${job.state}`,
		...(job.recoveryPointId ? [`  recovery point ${job.recoveryPointId}, level ${job.level}`] : []),
		...(job.orderToFrozenMs === undefined ? [] : [`  order to frozen ${humanMs(job.orderToFrozenMs)}`]),
		...(job.error ? [`  error ${job.error.code}: ${job.error.message}`] : []),
	];
	return `${lines.join("\n")}\n${job.report ? `\n${renderReport(job.report)}` : ""}`;
}

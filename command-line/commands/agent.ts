import { fileURLToPath } from "node:url";
import type { Command } from "commander";
import { StillpointError } from "../../contracts/errors.ts";
import type { CommandContext } from "../command-context.ts";
import { connectLocalAgent, usualFolders } from "../local-agent.ts";
import { printResult } from "../output.ts";
import { parsePath } from "../parse-path.ts";
import type { Act } from "../run-command-line.ts";

export function addAgentCommands(program: Command, context: CommandContext, act: Act): void {
	const agent = program.command("agent").description("the service on this machine");
	agent
		.command("run")
		.description("run the agent in the foreground, as a service manager does")
		.option(
			"--config <file>",
			"configuration file (default /etc/stillpoint/agent.json, which may be absent)",
			parsePath,
		)
		.option("--state-dir <folder>", "journal, enrolment and extensions (default /var/lib/stillpoint)", parsePath)
		.option("--log-dir <folder>", "logs (default /var/log/stillpoint)", parsePath)
		.option("--run-dir <folder>", "lock, socket and ledgers; on tmpfs (default /run/stillpoint)", parsePath)
		.option("--json", "print one JSON document when ready")
		.action((options: { config?: string; stateDir?: string; logDir?: string; runDir?: string; json?: boolean }) =>
			act(options, async () => {
				requireRootOnLinux("the agent");
				const { runAgent } = await import("../../agent/run-agent.ts");
				const { json, ...flags } = options;
				await runAgent({
					flags,
					environment: context.environment,
					stopping: context.stopping,
					shippedExtensions: shippedExtensions(import.meta.url),
					onLogFault: (error) => void context.stderr(`the log cannot be written: ${String(error)}\n`),
					onReady: () => printResult(context, json === true, { ready: true, pid: process.pid }, () => "agent ready"),
				});
				return undefined;
			}),
		);
	agent
		.command("enrol")
		.alias("enroll")
		.description("give this machine's agent an identity at a controller, by a one-time token")
		.requiredOption("--controller <url>", "https URL of the controller")
		.requiredOption("--token <token>", "made by: stillpoint controller token")
		.option(
			"--config <file>",
			"configuration of the agent, for controller.proxy (default /etc/stillpoint/agent.json)",
			parsePath,
		)
		.option("--state-dir <folder>", "state folder of the agent", parsePath, usualFolders(context).stateDir)
		.option(
			"--run-dir <folder>",
			"run folder of the agent: one that runs connects at once",
			parsePath,
			usualFolders(context).runDir,
		)
		.option("--json", "print one JSON document")
		.action((options: EnrolFlags) =>
			act(options, async () => {
				requireRootOnLinux("enrolling");
				const replaced = (await findFormerEnrolment(options.stateDir))?.agentId;
				const { agentId } = await enrolByFlags(options, context);
				const reloaded = await reloadLink(options.runDir, context.stopping);
				printResult(
					context,
					options.json === true,
					{ agentId, ...(replaced === undefined ? {} : { replaced }), reloaded },
					() =>
						`enrolled as ${agentId}${replaced === undefined ? "" : `, instead of ${replaced}`}; ` +
						(reloaded ? "the running agent connects now" : "start the agent to connect: stillpoint agent run"),
				);
				return undefined;
			}),
		);
}

type EnrolFlags = {
	controller: string;
	token: string;
	config?: string;
	stateDir: string;
	runDir: string;
	json?: boolean;
};

/** Goes the way that the agent will go: through the proxy of its configuration. */
async function enrolByFlags(options: EnrolFlags, context: CommandContext): Promise<{ agentId: string }> {
	const { enrol } = await import("../../agent/link/enrolment.ts");
	const { makeHttpsTransport } = await import("../../agent/link/https-transport.ts");
	const { loadConfig } = await import("../../agent/load-config.ts");
	const { readMachineIdentity } = await import("../../platform/linux/machine-identity.ts");
	const flags = options.config === undefined ? {} : { config: options.config };
	const { config } = await loadConfig({ flags, environment: context.environment });
	return await enrol({
		controllerUrl: options.controller,
		token: options.token,
		stateDir: options.stateDir,
		machine: await readMachineIdentity(),
		transport: makeHttpsTransport(config.controller.proxy),
		signal: AbortSignal.any([context.stopping, AbortSignal.timeout(30_000)]),
	});
}

/** What is about to be replaced. A file that cannot be read is replaced as well. */
async function findFormerEnrolment(stateDir: string): Promise<{ agentId: string } | undefined> {
	const { findEnrolment } = await import("../../agent/link/enrolment-file.ts");
	try {
		return findEnrolment(stateDir);
	} catch {
		return undefined;
	}
}

/** Whether a running agent took the new enrolment; without one there is nothing to do. */
async function reloadLink(runDir: string, signal: AbortSignal): Promise<boolean> {
	try {
		await using agent = await connectLocalAgent(runDir, signal);
		await agent.call("link.reload", {}, { limitMs: 5_000 });
		return true;
	} catch {
		return false;
	}
}

/** Packages that lie beside a bundled program; a program run from source ships none. */
function shippedExtensions(program: string): string[] {
	return program.endsWith(".mjs") ? [fileURLToPath(new URL("extensions/VMSnapshotLinux", program))] : [];
}

function requireRootOnLinux(what: string): void {
	if (process.platform !== "linux")
		throw new StillpointError("platform-unsupported", `${what} needs Linux, this is ${process.platform}`);
	if (process.getuid?.() !== 0) throw new StillpointError("root-required", `${what} must run as root`);
}

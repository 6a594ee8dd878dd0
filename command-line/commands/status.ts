import type { Command } from "commander";
import type { AgentStatus } from "../../contracts/local-calls.ts";
import type { CommandContext } from "../command-context.ts";
import { addLocalAgentOptions, connectLocalAgent } from "../local-agent.ts";
import { printResult, table } from "../output.ts";
import type { Act } from "../run-command-line.ts";

export function addStatusCommand(program: Command, context: CommandContext, act: Act): void {
	addLocalAgentOptions(program.command("status").description("say what the agent of this machine does")).action(
		(options: { runDir: string; json?: boolean }) =>
			act(options, async () => {
				await using agent = await connectLocalAgent(options.runDir, context.stopping);
				const status = await agent.call("agent.status", {}, { limitMs: 5_000 });
				printResult(context, options.json === true, status, renderStatus);
				return status.frozen.length > 0 && status.job?.phase === "stuck" ? 9 : 0;
			}),
	);
}

function renderLink(link: AgentStatus["link"]): string[] {
	const known = `${link.controller ?? "?"} as ${link.agentId ?? "?"}`;
	const state = link.connected
		? `connected to ${known}`
		: link.enrolled
			? `NOT connected to ${known}`
			: "not enrolled: works for local orders only";
	const lines = [link.unsentReports > 0 ? `${state}, ${link.unsentReports} reports to send` : state];
	if (link.error !== undefined) {
		const { code, message, remedy } = link.error;
		lines.push(`${code}: ${message}`);
		if (remedy !== undefined) lines.push(remedy);
	}
	if (link.heldBackReports !== undefined)
		lines.push(`${link.heldBackReports} reports are held back: another controller ordered their jobs`);
	if (link.clockDifferenceMs !== undefined)
		lines.push(`the controller's clock differs by ${Math.round(link.clockDifferenceMs / 1000)} s`);
	return lines;
}

/** For people; programs read the JSON. */
export function renderStatus(status: AgentStatus): string {
	const lines = [
		`Stillpoint ${status.version} on ${status.hostname}, pid ${status.pid}, since ${status.startedAt}`,
		...renderLink(status.link).map((line, index) => `  ${(index === 0 ? "link" : "").padEnd(12)}${line}`),
		`  extensions  ${status.extensions.map((one) => `${one.name} ${one.version} (${one.state})`).join(", ") || "none"}`,
		`  job         ${status.job ? `${status.job.jobId}: ${status.job.phase}` : "none"}`,
	];
	for (const one of status.frozen) lines.push(`  FROZEN      ${one.mountPoint} (${one.state})`);
	if (status.lastJobs.length > 0) {
		lines.push("", "Last jobs");
		const rows = status.lastJobs.map((job) => [
			job.jobId,
			job.startedAt,
			job.phase,
			job.achieved ?? (job.held ? `held ${job.held}` : ""),
			job.errorCode ?? "",
		]);
		lines.push(table(rows).replaceAll(/^/gm, "  "));
	}
	return lines.join("\n");
}

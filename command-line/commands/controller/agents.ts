import type { Command } from "commander";
import type { AgentRecord } from "../../../contracts/controller-messages.ts";
import { StillpointError } from "../../../contracts/errors.ts";
import type { CommandContext } from "../../command-context.ts";
import { addControllerOptions, type ControllerOptions, connectToController } from "../../controller-access.ts";
import { fields, type Page } from "../../layout.ts";
import { humanTime, printResult, table } from "../../output.ts";
import { renderStatus } from "../../render-status.ts";
import type { Act } from "../../run-command-line.ts";

export function addAgentsCommands(controller: Command, context: CommandContext, act: Act): void {
	const agents = controller.command("agents").description("the enrolled agents and their disks");
	// Options stand with each command below, not with the group: there they would be taken from the wrong place.
	addControllerOptions(agents.command("list", { isDefault: true }).description("list the enrolled agents")).action(
		(options: ControllerOptions) =>
			act(options, async () => {
				using api = await connectToController(options);
				const list = await api.listAgents();
				printResult(context, options.json === true, { agents: list }, (_, page) => renderAgents(list, page));
				return undefined;
			}),
	);
	addControllerOptions(agents.command("show").description("show one of them"))
		.argument("<agent>", "agent id")
		.action((agentId: string, options: ControllerOptions) =>
			act(options, async () => {
				using api = await connectToController(options);
				printResult(context, options.json === true, await api.readAgent(agentId), renderAgent);
				return undefined;
			}),
		);
	addControllerOptions(
		agents
			.command("map")
			.description("say where the disks of an agent lie on the controller's host; replaces what was said before"),
	)
		.argument("<agent>", "agent id")
		.argument("<disk=path...>", "kernel name of the disk in the guest, and its image file or block device here")
		.action((agentId: string, disks: string[], options: ControllerOptions) =>
			act(options, async () => {
				const mapping = disks.map(parseMapping);
				using api = await connectToController(options);
				const record = await api.mapDisks(agentId, mapping);
				printResult(context, options.json === true, record, (_, page) => renderAgents([record], page));
				return undefined;
			}),
		);
	addControllerOptions(agents.command("revoke").description("refuse the agent's certificates from now on"))
		.argument("<agent>", "agent id")
		.option("--reason <text>", "kept with it", "")
		.action((agentId: string, options: ControllerOptions & { reason: string }) =>
			act(options, async () => {
				using api = await connectToController(options);
				const record = await api.revokeAgent(agentId, options.reason);
				printResult(context, options.json === true, record, (_, page) => renderAgents([record], page));
				return undefined;
			}),
		);
	addControllerOptions(agents.command("remove").description("forget an agent; its jobs and recovery points stay"))
		.argument("<agent>", "agent id")
		.action((agentId: string, options: ControllerOptions) =>
			act(options, async () => {
				using api = await connectToController(options);
				await api.removeAgent(agentId);
				printResult(context, options.json === true, { removed: agentId }, () => `removed ${agentId}`);
				return undefined;
			}),
		);
	addControllerOptions(agents.command("status").description("ask a connected agent for its status"))
		.argument("<agent>", "agent id")
		.action((agentId: string, options: ControllerOptions) =>
			act(options, async () => {
				using api = await connectToController(options);
				const status = await api.readAgentStatus(agentId);
				printResult(context, options.json === true, status, (one, page) => renderStatus(one, page, Date.now()));
				return undefined;
			}),
		);
	addControllerOptions(agents.command("inventory").description("ask a connected agent for its inventory"))
		.argument("<agent>", "agent id")
		.action((agentId: string, options: ControllerOptions) =>
			act(options, async () => {
				const { renderInventory } = await import("../../render-inventory.ts");
				using api = await connectToController(options);
				printResult(context, options.json === true, await api.readAgentInventory(agentId), renderInventory);
				return undefined;
			}),
		);
}

function parseMapping(text: string): { name: string; image: string } {
	const at = text.indexOf("=");
	if (at < 1 || !text.slice(at + 1).startsWith("/"))
		throw new StillpointError("usage-invalid", `${text}: write DISK=/absolute/path`);
	return { name: text.slice(0, at), image: text.slice(at + 1) };
}

function renderAgent(one: AgentRecord, page: Page): string {
	const rows: [string, string][] = [
		["host", one.machine.hostname],
		["enrolled", humanTime(one.enrolledAt)],
		["last seen", one.lastSeenAt === undefined ? "never" : humanTime(one.lastSeenAt)],
		["link", one.revoked ? `revoked ${humanTime(one.revoked.at)} ${one.revoked.reason}`.trimEnd() : linkOf(one)],
		...one.disks.map(({ name, image }): [string, string] => [name, image]),
		...(one.disks.length === 0 ? [["disks", "none mapped"] as [string, string]] : []),
	];
	return `Agent ${one.agentId}\n${fields(rows, page)}`;
}

function linkOf({ revoked, connected }: AgentRecord): string {
	return revoked ? "revoked" : connected ? "connected" : "offline";
}

function renderAgents(list: readonly AgentRecord[], page: Page): string {
	const rows = list.map((one) => [
		one.agentId,
		one.machine.hostname,
		linkOf(one),
		one.disks.map((disk) => `${disk.name}=${disk.image}`).join(" ") || "no disks mapped",
	]);
	return table([["agent", "host", "link", "disks"], ...rows], { page, whole: [0], head: true });
}

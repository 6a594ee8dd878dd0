import type { Command } from "commander";
import type { RecoveryPoint } from "../../../contracts/recovery-point.ts";
import type { CommandContext } from "../../command-context.ts";
import { addControllerOptions, type ControllerOptions, connectToController } from "../../controller-access.ts";
import type { Page } from "../../layout.ts";
import { humanBytes, humanMs, humanTime, printResult, table } from "../../output.ts";
import { renderReport } from "../../render-report.ts";
import type { Act } from "../../run-command-line.ts";

export function addRecoveryPointsCommand(controller: Command, context: CommandContext, act: Act): void {
	addControllerOptions(controller.command("recovery-points").description("list recovery points, or show one"))
		.argument("[recovery-point]", "id")
		.option("--agent <id>", "of this agent only")
		.action((id: string | undefined, options: ControllerOptions & { agent?: string }) =>
			act(options, async () => {
				using api = await connectToController(options);
				if (id !== undefined) {
					printResult(context, options.json === true, await api.readRecoveryPoint(id), renderRecoveryPoint);
					return undefined;
				}
				const recoveryPoints = await api.listRecoveryPoints(options.agent);
				printResult(context, options.json === true, { recoveryPoints }, (_, page) =>
					table(
						[
							["recovery point", "agent", "level", "disks", "size", "created"],
							...recoveryPoints.map((point) => [
								point.id,
								point.agentId,
								point.level,
								String(point.disks.length),
								humanBytes(point.disks.reduce((sum, disk) => sum + disk.sizeBytes, 0)),
								humanTime(point.createdAt),
							]),
						],
						{ page, whole: [0, 2, 4, 5], head: true },
					),
				);
				return undefined;
			}),
		);
}

function renderRecoveryPoint(point: RecoveryPoint, page: Page): string {
	const { id, agentId, machine, createdAt, level, disks, report } = point;
	const rows = [
		["disk", "image", "size", "taken by", "in", "file systems"],
		...disks.map((one) => [
			one.name,
			one.image,
			humanBytes(one.sizeBytes),
			one.method,
			humanMs(one.copyMs),
			one.identity.fileSystems.map(({ fsType, uuid }) => `${fsType} ${uuid}`).join(" "),
		]),
	];
	const lines = [
		`Recovery point ${id}`,
		`  level ${level}, of ${machine.hostname} (agent ${agentId}), ${humanTime(createdAt)}`,
		"",
		table(rows, { page, head: true }),
		"",
		renderReport(report, page),
	];
	return lines.join("\n");
}

import type { Command } from "commander";
import type { CommandContext } from "../../command-context.ts";
import { addControllerOptions, type ControllerOptions, connectToController } from "../../controller-access.ts";
import { humanBytes, printResult, table } from "../../output.ts";
import type { Act } from "../../run-command-line.ts";

export function addRecoveryPointsCommand(controller: Command, context: CommandContext, act: Act): void {
	addControllerOptions(controller.command("recovery-points").description("list recovery points"))
		.option("--agent <id>", "of this agent only")
		.action((options: ControllerOptions & { agent?: string }) =>
			act(options, async () => {
				using api = await connectToController(options);
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
								point.createdAt,
							]),
						],
						{ page, whole: [0], head: true },
					),
				);
				return undefined;
			}),
		);
}

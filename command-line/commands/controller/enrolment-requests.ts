import type { Command } from "commander";
import type { CommandContext } from "../../command-context.ts";
import { addControllerOptions, type ControllerOptions, connectToController } from "../../controller-access.ts";
import { humanTime, printResult, table } from "../../output.ts";
import type { Act } from "../../run-command-line.ts";

export function addEnrolmentRequestsCommands(controller: Command, context: CommandContext, act: Act): void {
	const requests = controller
		.command("enrolment-requests")
		.description("machines that ask to be enrolled; what they say is not proved");
	addControllerOptions(requests.command("list", { isDefault: true }).description("list them, the newest first")).action(
		(options: ControllerOptions) =>
			act(options, async () => {
				using api = await connectToController(options);
				const list = await api.listEnrolmentRequests();
				printResult(context, options.json === true, { requests: list }, (_, page) =>
					table(
						[
							["request", "at", "from", "host", "former agent", "reason"],
							...list.map((one) => [
								one.id,
								humanTime(one.at),
								one.address,
								one.machine.hostname,
								one.formerAgentId ?? "",
								one.reason,
							]),
						],
						{ page, whole: [0], head: true },
					),
				);
				return undefined;
			}),
	);
	addControllerOptions(requests.command("remove").description("remove one that was dealt with"))
		.argument("<request>", "its id")
		.action((id: string, options: ControllerOptions) =>
			act(options, async () => {
				using api = await connectToController(options);
				await api.removeEnrolmentRequest(id);
				printResult(context, options.json === true, { removed: id }, () => `removed ${id}`);
				return undefined;
			}),
		);
}

import type { Command } from "commander";
import { errorCatalogue } from "../../../contracts/errors.ts";
import type { CommandContext } from "../../command-context.ts";
import { addControllerOptions, type ControllerOptions, connectToController } from "../../controller-access.ts";
import { printResult } from "../../output.ts";
import { renderVerification } from "../../render-verification.ts";
import type { Act } from "../../run-command-line.ts";

export function addVerifyCommand(controller: Command, context: CommandContext, act: Act): void {
	addControllerOptions(
		controller.command("verify").description("look at the images of a recovery point: is it what its label says"),
	)
		.argument("<recovery-point>", "id")
		.option("--latest", "look at nothing: show what the latest verification found")
		.action((id: string, options: ControllerOptions & { latest?: boolean }) =>
			act(options, async () => {
				using api = await connectToController(options);
				const verification = options.latest
					? await api.readVerification(id)
					: await api.verifyRecoveryPoint(id, context.stopping);
				printResult(context, options.json === true, verification, renderVerification);
				return verification.agrees ? 0 : errorCatalogue["verify-failed"].exit;
			}),
		);
}

import type { Command } from "commander";
import type { CommandContext } from "../../command-context.ts";
import { addControllerOptions, type ControllerOptions, connectToController } from "../../controller-access.ts";
import { printResult } from "../../output.ts";
import type { Act } from "../../run-command-line.ts";

export function addApiDocumentCommand(controller: Command, context: CommandContext, act: Act): void {
	addControllerOptions(
		controller.command("api-document").description("print the OpenAPI document of this controller's API"),
	).action((options: ControllerOptions) =>
		act(options, async () => {
			using api = await connectToController(options);
			const document = await api.readDocument();
			printResult(context, options.json === true, document, () => JSON.stringify(document, undefined, 2));
			return undefined;
		}),
	);
}

import type { Command } from "commander";
import type { CommandContext } from "../command-context.ts";
import type { Act } from "../run-command-line.ts";
import { addExtensionNewCommand } from "./extension-new.ts";
import { addExtensionTestCommand } from "./extension-test.ts";

/** What the author of an extension needs, beside the commands of the admin in the group `extensions`. */
export function addExtensionAuthorCommands(program: Command, context: CommandContext, act: Act): void {
	const group =
		program.commands.find((one) => one.name() === "extensions") ??
		program.command("extensions").description("the extensions on this machine, and what their authors need");
	addExtensionNewCommand(group, context, act);
	addExtensionTestCommand(group, context, act);
}

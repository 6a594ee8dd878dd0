import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { type Command, Option } from "commander";
import type { CommandContext } from "../command-context.ts";
import { printResult } from "../output.ts";
import type { Act } from "../run-command-line.ts";

type Language = "ts" | "sh";
type Options = { language: Language; into?: string; json?: boolean };

export function addExtensionNewCommand(extensions: Command, context: CommandContext, act: Act): void {
	extensions
		.command("new <name>")
		.description("make the skeleton of an extension, ready to be tested")
		.addOption(new Option("--language <language>", "what it is written in").choices(["ts", "sh"]).makeOptionMandatory())
		.option("--into <folder>", "folder that is made for it (default: the name, here)")
		.option("--json", "print one JSON document")
		.action((name: string, options: Options) =>
			act(options, async () => {
				const { makeExtension } = await import("../extension-skeleton.ts");
				const folder = resolve(options.into ?? name);
				const kit = kitFolder(import.meta.url);
				const files = await makeExtension({ name, language: options.language, folder, kit });
				printResult(context, options.json === true, { name, folder, files }, () =>
					[
						`made ${folder}:`,
						...files.map((file) => `  ${file}`),
						`test it: stillpoint extensions test ${folder} --settings ${join(folder, "test-settings.json")}`,
					].join("\n"),
				);
				return undefined;
			}),
		);
}

/** Beside the bundled program; for a program that is run from source, what was bundled last. */
function kitFolder(program: string): string {
	return fileURLToPath(new URL(program.endsWith(".mjs") ? "extension-kit" : "../../dist/extension-kit", program));
}

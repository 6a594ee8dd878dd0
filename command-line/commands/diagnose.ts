import { hostname } from "node:os";
import { resolve } from "node:path";
import { type Command, Option } from "commander";
import { StillpointError } from "../../contracts/errors.ts";
import type { CommandContext } from "../command-context.ts";
import type { MadeBundle } from "../diagnose/make-bundle.ts";
import { type Cell, type Page, paragraph, table } from "../layout.ts";
import { humanBytes, printResult } from "../output.ts";
import { parsePath } from "../parse-path.ts";
import { makeProgress } from "../progress.ts";
import type { Act } from "../run-command-line.ts";

type Options = {
	output?: string;
	config?: string;
	stateDir?: string;
	logDir?: string;
	runDir?: string;
	disk: string[];
	json?: boolean;
};

/** Works with or without an agent, and with a configuration that has faults. */
export function addDiagnoseCommand(program: Command, context: CommandContext, act: Act): void {
	const many = (value: string, before: string[]) => [...before, value];
	program
		.command("diagnose")
		.description("gather what a helper needs to know into one file, without secrets; sends nothing")
		.option("--output <file>", "the bundle (default: stillpoint-diagnose-HOST-TIME.tar.gz in this folder)")
		.addOption(
			new Option("--disk <name>", "plan and check only these disks (may be repeated)")
				.argParser(many)
				.default([], "all"),
		)
		.option(
			"--config <file>",
			"configuration of the agent (default /etc/stillpoint/agent.json, which may be absent)",
			parsePath,
		)
		.option("--state-dir <folder>", "state folder of the agent (default /var/lib/stillpoint)", parsePath)
		.option("--log-dir <folder>", "log folder of the agent (default /var/log/stillpoint)", parsePath)
		.option("--run-dir <folder>", "run folder of the agent (default /run/stillpoint)", parsePath)
		.option("--json", "print one JSON document")
		.action((options: Options) =>
			act(options, async () => {
				requireRoot();
				const { joinFolders, loadConfig } = await import("../../agent/load-config.ts");
				const { makeBundle } = await import("../diagnose/make-bundle.ts");
				const { json, disk, output, ...flags } = options;
				const { environment, stopping: signal } = context;
				const loaded = await loadConfig({ flags, environment }).catch(() => undefined);
				const { folders } = loaded ?? joinFolders({ flags, environment });
				const time = new Date().toISOString().replaceAll(/[-:]|\..*/g, "");
				const name = `stillpoint-diagnose-${hostname().replaceAll(/[^\w.-]/g, "_")}-${time}`;
				using progress = makeProgress(context, json === true);
				const made = await makeBundle(
					{
						...{ flags, environment, folders, signal },
						...(loaded === undefined ? {} : { loaded }),
						disks: disk.length === 0 ? "all" : { include: disk },
					},
					{ file: resolve(output ?? `${name}.tar.gz`), name, onStep: (step) => progress.say(step) },
				);
				progress.clear();
				printResult(context, json === true, made, renderBundle);
				return undefined;
			}),
		);
}

function renderBundle({ file, sizeBytes, entries }: MadeBundle, page: Page): string {
	const rows = entries.map(({ name, what, sizeBytes: bytes, error }): Cell[] => [
		name,
		humanBytes(bytes),
		error === undefined ? what : { text: error, tone: "warn" },
	]);
	return [
		paragraph(`${file}: ${humanBytes(sizeBytes)}, for root alone`, page, 0, "good"),
		table(rows, { page, indent: 2 }),
		paragraph(
			"Secrets were taken out; names of hosts, users, folders and disks stand in it. Look it through before you send it.",
			page,
		),
	].join("\n");
}

function requireRoot(): void {
	if (process.platform !== "linux") throw new StillpointError("platform-unsupported", "diagnose works on Linux");
	if (process.getuid?.() !== 0)
		throw new StillpointError("root-required", "only root may gather all of it; try: sudo stillpoint diagnose");
}

import { existsSync } from "node:fs";
import { resolve } from "node:path";
import type { Command } from "commander";
import type { AgentConfig } from "../../agent/config-schema.ts";
import { StillpointError } from "../../contracts/errors.ts";
import type { CommandContext } from "../command-context.ts";
import { printResult } from "../output.ts";
import { parsePath } from "../parse-path.ts";
import { renderScriptChecks, renderScripts } from "../render-scripts.ts";
import type { Act } from "../run-command-line.ts";

type Options = { config?: string; azureGuest?: string | true; runDir?: string; json?: boolean };

/** What decides over the scripts of a job: the agent's configuration, or that of jobs under Azure's agent. */
type ScriptsConfig = Pick<AgentConfig, "scriptsFolder" | "otherScripts" | "fileSystems" | "tempDisks"> & {
	readonly runFolder: string;
};

/** What the configuration names is read here, so it works without the agent; nothing is ever frozen. */
export function addScriptsCommand(program: Command, context: CommandContext, act: Act): void {
	const group = program
		.command("scripts")
		.description("see and check what makes the applications of this machine quiet");
	addScriptsOptions(
		group
			.command("list", { isDefault: true })
			.description("list every application whose scripts a job would run, in the order of a job"),
	).action((options: Options) =>
		act(options, async () => {
			const config = await readConfig(options);
			const { readApplications } = await import(
				"../../extensions/vm-snapshot-linux/script-runner/read-applications.ts"
			);
			const { checkTrust } = await import("../../extensions/vm-snapshot-linux/script-runner/prepare-applications.ts");
			const { applications, bad, notes, freezeDisabledBy } = await readApplications(config, checkTrust);
			const found = {
				applications,
				bad: bad.map(badDocument),
				notes,
				...(freezeDisabledBy ? { freezeDisabledBy } : {}),
			};
			printResult(context, options.json === true, found, renderScripts);
			return undefined;
		}),
	);
	addScriptsOptions(
		group
			.command("check")
			.description("look at every script, and try those that know a dry run; ends with 3 when a fault was found")
			.argument("[name]", "only this one, by its name in the list"),
	).action((name: string | undefined, options: Options) =>
		act(options, async () => {
			const config = await readConfig(options);
			const { checkApplications } = await import(
				"../../extensions/vm-snapshot-linux/script-runner/check-applications.ts"
			);
			const request = { ...config, hostFolders: [] };
			const { checks, bad } = await checkApplications(request, { name, signal: context.stopping });
			const checked = {
				checks: checks.map(({ application, reports }) => ({
					name: application.name,
					application: application.application,
					source: application.source,
					reports,
				})),
				bad: bad.map(badDocument),
			};
			printResult(context, options.json === true, checked, renderScriptChecks);
			const isWell =
				bad.length === 0 && checks.every(({ reports }) => reports.every(({ error }) => error === undefined));
			return isWell ? 0 : 3;
		}),
	);

	async function readConfig(options: Options): Promise<ScriptsConfig> {
		if (process.platform !== "linux") throw new StillpointError("platform-unsupported", "scripts work on Linux");
		if (process.getuid?.() !== 0) throw new StillpointError("root-required", "scripts are root's own");
		const { json: _, azureGuest, ...flags } = options;
		if (azureGuest !== undefined) return await readAzureGuest(azureGuest);
		const { loadConfig } = await import("../../agent/load-config.ts");
		const { config, folders } = await loadConfig({ flags, environment: context.environment });
		return { ...config, runFolder: folders.runDir };
	}
}

/** @param file `true`: the default one, which may be absent */
async function readAzureGuest(file: string | true): Promise<ScriptsConfig> {
	const { defaultConfigPath, loadGuestConfig } = await import(
		"../../extensions/vm-snapshot-linux/azure/guest-config.ts"
	);
	const path = file === true ? defaultConfigPath : resolve(file);
	if (file !== true && !existsSync(path)) throw new StillpointError("config-missing", `${path} does not exist`);
	return { ...(await loadGuestConfig(path)), tempDisks: [] };
}

function addScriptsOptions(command: Command): Command {
	return command
		.option(
			"--config <file>",
			"configuration of the agent (default /etc/stillpoint/agent.json, which may be absent)",
			parsePath,
		)
		.option(
			"--azure-guest [file]",
			"what jobs under Azure's agent would run, by their configuration (default /etc/stillpoint/azure-guest.json)",
		)
		.option("--run-dir <folder>", "run folder of the agent (default /run/stillpoint)", parsePath)
		.option("--json", "print one JSON document");
}

function badDocument({
	name,
	onFailure,
	error,
}: {
	name: string;
	onFailure: "fail" | "continue";
	error: StillpointError;
}) {
	return { name, onFailure, error: error.toJSON() };
}

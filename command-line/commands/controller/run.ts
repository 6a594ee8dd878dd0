import type { Command } from "commander";
import type { CommandContext } from "../../command-context.ts";
import { addControllerHostOptions, type ControllerHostOptions } from "../../controller-access.ts";
import { printResult } from "../../output.ts";
import { parseCount } from "../../parse-count.ts";
import type { Act } from "../../run-command-line.ts";
import { stderrLog } from "../../stderr-log.ts";

export function addRunCommand(controller: Command, context: CommandContext, act: Act): void {
	const many = (value: string, before: string[]) => [...before, value];
	addControllerHostOptions(controller.command("run").description("run the controller in the foreground"))
		.option("--listen <host>", "address to listen on", "127.0.0.1")
		.option("--port <port>", "port to listen on; 0 takes a free one", parseCount(0, 65_535), 7443)
		.option("--name <host>", "name or address under which it is reached from elsewhere (may be repeated)", many, [])
		.option(
			"--no-database-servers",
			"verify: start no database server of this host on copies of databases that are found",
		)
		.action(
			(options: ControllerHostOptions & { listen: string; port: number; name: string[]; databaseServers: boolean }) =>
				act(options, async () => {
					const { runController } = await import("../../../controller/run-controller.ts");
					await runController({
						stateDir: options.stateDir,
						listenHost: options.listen,
						port: options.port,
						serverNames: options.name,
						verifyDatabaseServers: options.databaseServers,
						stopping: context.stopping,
						log: stderrLog(context),
						onReady: (info) =>
							printResult(context, options.json === true, info, () => `controller ready at ${info.url}`),
					});
					return undefined;
				}),
		);
}

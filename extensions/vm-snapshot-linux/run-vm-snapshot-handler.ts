import { asStillpointError } from "../../contracts/errors.ts";
import { handlerCommands, isHandlerCommand, runHandlerCommand } from "../kit/handler-commands.ts";
import { runAzureCommand } from "./azure/azure-commands.ts";
import { checkMachine } from "./check-machine.ts";

/**
 * Answers a lifecycle command of the Azure handler contract. Settings of a host make `enable` take a snapshot; without
 * them it is ready for the snapshot command. Returns the exit status.
 */
export async function runVmSnapshotHandler(
	name: string | undefined,
	given: {
		packageFolder: string;
		configPath: string;
		environment: NodeJS.ProcessEnv;
		jobCommand: readonly [string, ...string[]];
		stdout: { write(text: string): unknown };
		stderr: { write(text: string): unknown };
	},
): Promise<number> {
	if (!isHandlerCommand(name)) {
		given.stderr.write(`usage: vm-snapshot-linux snapshot | ${handlerCommands.join(" | ")}\n`);
		return 2;
	}
	const common = { packageFolder: given.packageFolder, check: checkMachine, now: () => new Date() };
	try {
		const said =
			(await runAzureCommand(name, { ...given, ...common })) ??
			(await runHandlerCommand({
				...common,
				name,
				sequenceNumber: given.environment["ConfigSequenceNumber"],
				handlerName: "VMSnapshotLinux",
			}));
		given.stdout.write(`${said}\n`);
		return 0;
	} catch (thrown) {
		const error = asStillpointError(thrown);
		given.stderr.write(`${error.message}\n`);
		return error.traits.exit;
	}
}

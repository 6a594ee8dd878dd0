import { asStillpointError } from "../../contracts/errors.ts";
import { handlerCommands, isHandlerCommand, runHandlerCommand } from "../kit/handler-commands.ts";
import { checkMachine } from "./check-machine.ts";

/** Answers a lifecycle command of the Azure handler contract. Returns the exit status. */
export async function runVmSnapshotHandler(
	name: string | undefined,
	given: {
		packageFolder: string;
		sequenceNumber: string | undefined;
		stdout: { write(text: string): unknown };
		stderr: { write(text: string): unknown };
	},
): Promise<number> {
	if (!isHandlerCommand(name)) {
		given.stderr.write(`usage: vm-snapshot-linux snapshot | ${handlerCommands.join(" | ")}\n`);
		return 2;
	}
	try {
		const said = await runHandlerCommand({
			name,
			packageFolder: given.packageFolder,
			sequenceNumber: given.sequenceNumber,
			handlerName: "VMSnapshotLinux",
			check: checkMachine,
			now: () => new Date(),
		});
		given.stdout.write(`${said}\n`);
		return 0;
	} catch (thrown) {
		const error = asStillpointError(thrown);
		given.stderr.write(`${error.message}\n`);
		return error.traits.exit;
	}
}

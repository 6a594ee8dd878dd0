import type { Command } from "commander";
import type { ControllerClient } from "../controller/client.ts";

const defaultStateFolder = "/var/lib/stillpoint-controller";

export type ControllerOptions = { stateDir: string; json?: boolean };

/** Options of every command that runs or asks the controller of this host. */
export function addControllerOptions(command: Command): Command {
	return command
		.option(
			"--state-dir <folder>",
			"state folder of the controller, which holds the operator's key",
			defaultStateFolder,
		)
		.option("--json", "print one JSON document");
}

/** As an operator, by the files that the controller keeps in its state folder. */
export async function connectAsOperator(stateDir: string): Promise<ControllerClient> {
	const { connectController } = await import("../controller/client.ts");
	const { readOperatorFiles } = await import("../controller/operator-files.ts");
	return connectController(await readOperatorFiles(stateDir));
}

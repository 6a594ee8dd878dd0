import type { Command } from "commander";
import { StillpointError } from "../contracts/errors.ts";
import type { ControllerClient } from "../controller/client.ts";

const defaultStateFolder = "/var/lib/stillpoint-controller";

/** Of the command that runs the controller. */
export type ControllerHostOptions = { stateDir: string; json?: boolean };
/** Of every command that asks it: by the files in its state folder, or from anywhere by a credential. */
export type ControllerOptions = ControllerHostOptions & { controller?: string; credentials?: string };

export function addControllerHostOptions(command: Command): Command {
	return command
		.option(
			"--state-dir <folder>",
			"state folder of the controller, which holds the operator's key",
			defaultStateFolder,
		)
		.option("--json", "print one JSON document");
}

export function addControllerOptions(command: Command): Command {
	return addControllerHostOptions(command)
		.option("--controller <url>", "from another host: address of the controller, such as https://backup-1:7443")
		.option("--credentials <folder>", "from another host: folder made by: controller credentials add");
}

/** As the credential that was named, else as the operator of this host. */
export async function connectToController(options: ControllerOptions): Promise<ControllerClient> {
	const { controller, credentials, stateDir } = options;
	const { connectController } = await import("../controller/client.ts");
	if (controller === undefined && credentials === undefined) {
		const { readOperatorFiles } = await import("../controller/operator-files.ts");
		return connectController(await readOperatorFiles(stateDir));
	}
	if (controller === undefined || credentials === undefined)
		throw new StillpointError("usage-invalid", "--controller and --credentials belong together");
	const url = URL.parse(controller);
	if (url?.protocol !== "https:")
		throw new StillpointError("usage-invalid", `--controller must be an https address, not ${controller}`);
	const { readCredentialFolder } = await import("../controller/credential-files.ts");
	return connectController({ url: url.origin, ...(await readCredentialFolder(credentials)) });
}

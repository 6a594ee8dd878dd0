import { isAbsolute, join } from "node:path";
import { StillpointError } from "../../contracts/errors.ts";

/**
 * A command of a manifest as program and arguments: split at blanks, no shell and no quotes. `node` is the Node that
 * runs us; a relative path with a slash starts in the package.
 */
export function parseCommandLine(command: string, folder: string): readonly [string, ...string[]] {
	const [program, ...words] = command.trim().split(/\s+/);
	if (!program) throw new StillpointError("extension-invalid", `an empty command in ${folder}`);
	if (program === "node") return [process.execPath, ...words];
	if (program.includes("/") && !isAbsolute(program)) return [join(folder, program), ...words];
	return [program, ...words];
}

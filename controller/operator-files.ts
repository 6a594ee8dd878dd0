import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { StillpointError } from "../contracts/errors.ts";
import { statePaths } from "./state-folder.ts";

const readyFileSchema = z.object({ url: z.url(), pid: z.int().positive() });

/** Where the controller of a state folder answers, and what proves an operator to it; PEM texts. */
export type OperatorAccess = {
	readonly url: string;
	readonly pid: number;
	readonly ca: string;
	readonly cert: string;
	readonly key: string;
};

/** For the controller's own host. `controller-unreachable` when none runs with this folder, `not-allowed` when it can't be read. */
export async function readOperatorFiles(stateDir: string): Promise<OperatorAccess> {
	const { ca, operator, readyFile } = statePaths(stateDir);
	try {
		const ready = readyFileSchema.parse(JSON.parse(await readFile(readyFile, "utf8")));
		return {
			...ready,
			ca: await readFile(join(ca, "cert.pem"), "utf8"),
			cert: await readFile(join(operator, "cert.pem"), "utf8"),
			key: await readFile(join(operator, "key.pem"), "utf8"),
		};
	} catch (error) {
		const code = (error as NodeJS.ErrnoException).code;
		if (code === "EACCES" || code === "EPERM")
			throw new StillpointError("not-allowed", `the operator's files in ${stateDir} cannot be read`, { cause: error });
		throw new StillpointError("controller-unreachable", `no controller runs with ${stateDir}`, { cause: error });
	}
}

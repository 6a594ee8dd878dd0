import { stat } from "node:fs/promises";
import { asStillpointError, StillpointError } from "../../../../contracts/errors.ts";
import { findSmallFile } from "../../../../platform/read-small-file.ts";
import type { CheckTrust } from "../application-scripts.ts";
import { findDanglingLink } from "./dangling-link.ts";

const maxBytes = 64 * 1024;

export type AzureFileRule = {
	/** None of these bits may be set. */
	readonly forbidden: number;
	/** In words. */
	readonly wanted: string;
	/** Azure's codes for a file of somebody else, for one that is open to others, and for one that can't be read. */
	readonly ownerCode: number;
	readonly modeCode: number;
	readonly parsingCode: number;
};

/**
 * Text of a file of /etc/azure that only root could have written; undefined when there is none.
 * @throws `script-untrusted` with Azure's code, `script-config-invalid`
 */
export async function findAzureFile(
	path: string,
	checkTrust: CheckTrust,
	rule: AzureFileRule,
): Promise<string | undefined> {
	const stats = await stat(path).catch((error: NodeJS.ErrnoException) => {
		if (error.code === "ENOENT" || error.code === "ENOTDIR") return undefined;
		throw azureFault(rule.parsingCode, `${path} cannot be read (${error.code})`, error);
	});
	if (stats === undefined) {
		const dangling = await findDanglingLink(path);
		if (dangling === undefined) return undefined;
		throw azureFault(rule.parsingCode, `${path}: the link ${dangling} leads to nothing`);
	}
	if (stats.uid !== process.geteuid?.()) throw untrusted(`${path} belongs to uid ${stats.uid}`, rule.ownerCode);
	if ((stats.mode & rule.forbidden) !== 0) {
		const mode = (stats.mode & 0o777).toString(8).padStart(4, "0");
		throw untrusted(`${path} has the mode ${mode}; ${rule.wanted}`, rule.modeCode);
	}
	try {
		await checkTrust(path);
	} catch (cause) {
		throw untrusted(asStillpointError(cause).message, rule.modeCode, cause);
	}
	try {
		return await findSmallFile(path, { code: "script-config-invalid", limitBytes: maxBytes });
	} catch (cause) {
		throw azureFault(rule.parsingCode, asStillpointError(cause).message, cause);
	}
}

/** A fault that Azure has a code of its own for. */
export function azureFault(azureCode: number, what: string, cause?: unknown): StillpointError {
	return new StillpointError("script-config-invalid", what, { cause, details: { azureCode } });
}

function untrusted(what: string, azureCode: number, cause?: unknown): StillpointError {
	return new StillpointError("script-untrusted", what, { cause, details: { azureCode } });
}

import { stat } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { asStillpointError } from "../../../../contracts/errors.ts";
import { siblingProgram } from "../../../../platform/linux/sibling-program.ts";
import type { CheckTrust } from "../application-scripts.ts";
import { type AzureFileRule, findAzureFile } from "./azure-file.ts";
import {
	type AzureWorkload,
	findMisspeltSections,
	namesWorkload,
	parseAzureWorkload,
} from "./azure-workload-config.ts";
import { type FoundScripts, nothingFound } from "./found-scripts.ts";

export type AzureWorkloads = FoundScripts & {
	/** A database is named: Azure's extension then runs no script plugin. */
	readonly isNamed: boolean;
};

/** Nobody else may write; what may stand in it is refused when it is a secret. */
const rule: AzureFileRule = {
	forbidden: 0o022,
	wanted: "nobody else may write to it",
	modeCode: 501,
	ownerCode: 501,
	parsingCode: 501,
};
/** Behind hooks and drop-ins that say nothing: nobody knows how long those take, and writers wait for this one. */
const workloadOrder = 600;
const name = "azure-workload";

/** A failure of its database never fails the job: Azure's extension goes on at level file-system. */
export async function readAzureWorkload(folder: string, checkTrust: CheckTrust): Promise<AzureWorkloads> {
	const path = join(folder, "workload.conf");
	let text: string | undefined;
	try {
		text = await findAzureFile(path, checkTrust, rule);
		if (text === undefined) return { ...nothingFound, isNamed: false };
		const workload = parseAzureWorkload(text, path);
		if (workload === undefined) return { ...nothingFound, notes: findMisspeltSections(text, path), isNamed: false };
		const command = [
			siblingProgram(import.meta.url, {
				source: `../../../../scripts/${workload.script}`,
				bundled: `scripts/${workload.script}`,
			}),
			...workload.options,
			...(await clientOptions(workload)),
		];
		const { deadlineMs, endOptions } = workload;
		const application = {
			name,
			application: workload.name,
			source: "azure-workload",
			order: workloadOrder,
			onFailure: "continue",
			session: { command, deadlineMs, retries: 0 },
			...(endOptions === undefined ? {} : { post: { command: [...command, ...endOptions], deadlineMs, retries: 0 } }),
			dryRun: true,
			keepsProcesses: false,
			ownerOnly: false,
		} as const;
		return { applications: [application], bad: [], notes: workload.notes, isNamed: true };
	} catch (error) {
		const bad = [{ name, source: "azure-workload", error: asStillpointError(error), onFailure: "continue" } as const];
		return { ...nothingFound, bad, isNamed: text !== undefined && namesWorkload(text, path) };
	}
}

async function clientOptions({ commandPath, clients }: AzureWorkload): Promise<string[]> {
	if (commandPath === undefined) return [];
	const isProgram = await stat(commandPath).then(
		(stats) => stats.isFile(),
		() => clients.includes(basename(commandPath)),
	);
	return ["--client-folder", isProgram ? dirname(commandPath) : commandPath];
}

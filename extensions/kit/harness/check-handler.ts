import type { TestSettings } from "./check-run.ts";
import { handlerChecks } from "./handler-checks.ts";
import { openHandlerHost } from "./handler-host.ts";
import { findSecretsInFiles, secretsOf, watchCommandLines } from "./secret-search.ts";

export type { TestSettings } from "./check-run.ts";

export type CheckResult = {
	readonly name: string;
	readonly result: "passed" | "failed" | "skipped";
	/** What is wrong, or why it was skipped. */
	readonly what?: string;
	/** What to do about it. */
	readonly remedy?: string;
};

export type HandlerVerdict = {
	readonly name: string;
	readonly version: string;
	readonly passed: boolean;
	readonly checks: readonly CheckResult[];
};

/**
 * Leads a handler through a whole life on a host that knows Azure's contract only, and looks at what it did. Runs the
 * handler's own commands, as the user that calls this.
 * @param given.workFolder empty or absent; holds keys, packages and logs of the run afterwards
 * @throws `extension-invalid` for a manifest that is none, `tool-missing` (openssl)
 */
export async function checkHandler(given: {
	packageFolder: string;
	workFolder: string;
	settings?: TestSettings;
	privateNamespace?: boolean;
	signal?: AbortSignal;
	onCheck?: (result: CheckResult) => void;
}): Promise<HandlerVerdict> {
	const { packageFolder, workFolder, settings = {}, privateNamespace = false } = given;
	await using host = await openHandlerHost({ packageFolder, workFolder, privateNamespace });
	// A command that runs ends with its processes; then the next look at the signal throws.
	given.signal?.addEventListener("abort", () => void host.endProcesses(), { once: true });
	const { name, version } = host;
	const secrets = secretsOf(settings.protectedSettings);
	const leaks = new Set<string>();
	// The file of test settings may lie in the package itself.
	const shipped = new Set(await findSecretsInFiles(packageFolder, secrets));
	await using _ = watchCommandLines(host, secrets, leaks);
	const run = { host, packageFolder, workFolder, settings, secrets, leaks };
	const checks: CheckResult[] = [];
	let vitalFault: string | undefined;
	for (const check of handlerChecks) {
		given.signal?.throwIfAborted();
		const skipped = vitalFault ?? check.skip?.(run);
		const fault = skipped === undefined ? await check.act(run).catch((error: Error) => error.message) : undefined;
		// After each: an update takes the files of the old version away.
		for (const file of await findSecretsInFiles(workFolder, secrets))
			if (!shipped.has(file.slice(file.indexOf("/") + 1))) leaks.add(file);
		if (check.isVital && fault !== undefined) vitalFault = `not reached: "${check.name}" failed`;
		const result: CheckResult =
			skipped !== undefined
				? { name: check.name, result: "skipped", what: skipped }
				: fault === undefined
					? { name: check.name, result: "passed" }
					: { name: check.name, result: "failed", what: fault, remedy: check.remedy };
		checks.push(result);
		given.onCheck?.(result);
	}
	return { name, version, passed: checks.every((one) => one.result !== "failed"), checks };
}

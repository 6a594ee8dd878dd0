/** Applications: what the dry runs of their scripts say. */
import type { LoadedConfig } from "../../agent/load-config.ts";
import type { Finding } from "../../contracts/check.ts";
import { asStillpointError } from "../../contracts/errors.ts";
import type { JobEvidence } from "../../extensions/vm-snapshot-linux/consistency-verdict.ts";
import type { ApplicationScripts } from "../../extensions/vm-snapshot-linux/script-runner/application-scripts.ts";
import {
	type CheckedApplications,
	checkApplications,
} from "../../extensions/vm-snapshot-linux/script-runner/check-applications.ts";
import { checkTrust } from "../../extensions/vm-snapshot-linux/script-runner/prepare-applications.ts";
import { readApplications } from "../../extensions/vm-snapshot-linux/script-runner/read-applications.ts";
import { within } from "../../platform/within.ts";

/** Scripts have deadlines of their own; this is for all of them. */
const scriptsLimitMs = 300_000;
const remedy = "See stillpoint scripts check, and docs/scripts.md.";

/** What a job would find out, foretold by the dry runs: one that ends well is taken for proved. */
export function foreseeApplications({ checks, bad }: CheckedApplications): JobEvidence["applications"] {
	return [
		...checks.map(({ application, reports }) => ({
			name: application.name,
			proved: reports.every(({ error }) => error === undefined),
			holdLost: false,
		})),
		...bad.map(({ name }) => ({ name, proved: false, holdLost: false, bad: true })),
	];
}

export function scriptFindings({ checks, bad }: CheckedApplications): Finding[] {
	if (checks.length + bad.length === 0)
		return [{ check: "scripts", status: "ok", what: "no application is configured" }];
	return [
		...checks.map(({ application: { name, onFailure, dryRun }, reports }): Finding => {
			const fault = reports.find(({ error }) => error !== undefined);
			const tried = dryRun ? "its dry run ended well" : "it looks well; it knows no dry run";
			if (fault?.error === undefined) return { check: "scripts", status: "ok", what: `${name}: ${tried}` };
			const said = fault.outputTail.trim().split("\n").at(-1) ?? "";
			return {
				check: "scripts",
				status: onFailure === "fail" ? "fail" : "warn",
				what: `${name}: ${fault.error.code} (${fault.phase}); jobs of level application ${onFailure === "fail" ? "fail" : "reach file-system at best"}`,
				why: [fault.error.message, said].filter(Boolean).join(": "),
				remedy,
			};
		}),
		...bad.map(
			({ name, onFailure, error }): Finding => ({
				check: "scripts",
				status: onFailure === "fail" ? "fail" : "warn",
				what: `${name}: ${error.code}`,
				why: error.message,
				remedy,
			}),
		),
	];
}

export type CheckedScripts = {
	readonly findings: readonly Finding[];
	readonly applications: readonly ApplicationScripts[];
	readonly evidence: JobEvidence["applications"];
	readonly wereTried: boolean;
	readonly freezeDisabled: boolean;
};

/** Trust, syntax and dry run of all that a job of level application would run. What goes wrong is a finding. */
export async function checkScripts(
	{ config, folders }: Pick<LoadedConfig, "config" | "folders">,
	{ isFrozen, signal }: { isFrozen: boolean; signal: AbortSignal },
): Promise<CheckedScripts> {
	if (isFrozen)
		return unknownScripts("a program that is started now could hang", "Check again when nothing is frozen.");
	try {
		return await within(tryScripts({ config, folders }, signal), scriptsLimitMs, "trying the scripts", signal);
	} catch (thrown) {
		signal.throwIfAborted();
		const { message, traits } = asStillpointError(thrown);
		return unknownScripts(message, traits.remedy);
	}
}

/** What was not tried is not proved. */
function unknownScripts(why: string, advice: string): CheckedScripts {
	return {
		findings: [{ check: "scripts", status: "unknown", what: "were not tried", why, remedy: advice }],
		applications: [],
		evidence: [{ name: "scripts", proved: false, holdLost: false, bad: true }],
		wereTried: false,
		freezeDisabled: false,
	};
}

async function tryScripts(
	{ config, folders }: Pick<LoadedConfig, "config" | "folders">,
	signal: AbortSignal,
): Promise<CheckedScripts> {
	const request = { ...config, hostFolders: [], runFolder: folders.runDir };
	const { applications, notes, freezeDisabledBy } = await readApplications(config, checkTrust);
	const checked = await checkApplications(request, { signal });
	const disabled: Finding[] =
		freezeDisabledBy === undefined
			? []
			: [
					{
						check: "scripts",
						status: "warn",
						what: `${freezeDisabledBy} says fsFreezeEnabled=false: nothing is frozen`,
						remedy: "Set it to true, unless that is meant.",
					},
				];
	const noted = notes.map(
		(what): Finding => ({ check: "scripts", status: "warn", what, remedy: "See docs/other-scripts.md." }),
	);
	return {
		findings: [...disabled, ...scriptFindings(checked), ...noted],
		applications,
		evidence: foreseeApplications(checked),
		wereTried: true,
		freezeDisabled: freezeDisabledBy !== undefined,
	};
}

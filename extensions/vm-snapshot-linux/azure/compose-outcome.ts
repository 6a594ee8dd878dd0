import type { Report } from "../../../contracts/report.ts";
import { azureCodeOf, findScriptFault } from "./azure-codes.ts";
import { outcomeOf, type TaskOutcome } from "./azure-status.ts";
import type { InsideHost } from "./inside-host.ts";

/** @param problem what a person must know besides, or nothing */
export function composeOutcome(host: InsideHost, report: Report, problem: string): TaskOutcome {
	const { error } = report;
	const ofProvider = error?.code === "snapshot-failed" || error?.code === "prepare-failed" ? host.failure : undefined;
	const code = ofProvider ?? (error === undefined ? host.failure : azureCodeOf(error, report));
	const told = outcomeOf(report, code);
	const { window } = report;
	return {
		...told,
		healthCode: told.status === "success" ? findScriptFault(report) : undefined,
		message: [told.message, problem, ...host.passedOver.map((why) => `passed over: ${why}`)].filter(Boolean).join("; "),
		report,
		snapshots: host.taken?.disks.map(({ info }) => info),
		telemetry: {
			...host.taken?.telemetry,
			...(window === undefined
				? {}
				: {
						FreezeTime: String(window.freezeMs),
						snapshotTimeTaken: String(window.heldMs),
						ThawTime: String(window.thawMs),
					}),
			snapshotCreator: host.taken?.disks[0]?.info.blobUri === undefined ? "backupHostService" : "guestExtension",
		},
	};
}

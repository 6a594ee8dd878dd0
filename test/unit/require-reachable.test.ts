import { expect, test } from "vitest";
import { StillpointError } from "../../contracts/errors.ts";
import type { Order } from "../../contracts/order.ts";
import type { JobEvidence } from "../../extensions/vm-snapshot-linux/consistency-verdict.ts";
import type { JobRecord } from "../../extensions/vm-snapshot-linux/job-record.ts";
import { requireReachable } from "../../extensions/vm-snapshot-linux/require-reachable.ts";

const shop = { name: "shop", proved: false, holdLost: false };
const bad = {
	name: "azure-script",
	onFailure: "continue",
	error: new StillpointError("script-config-invalid", "/x: y"),
};

test("all that is configured could be proved: application may be asked for", () => {
	expect(whyNot("application", { applications: [shop] })).toBeUndefined();
});

test("without applications, or with one that can't be run, application is refused with the reason", () => {
	expect(whyNot("application", { applications: [] })).toMatchObject({
		code: "level-unreachable",
		message: "file-system at best: No application is configured: nothing proves more than level file-system.",
	});
	const applications = [shop, { ...shop, name: bad.name, bad: true }];
	const refused = whyNot("application", { applications }, { badScripts: [bad] });
	expect(refused).toMatchObject({ code: "level-unreachable", details: { because: ["script-failed"] } });
	expect(refused?.message).toContain("azure-script: /x: y");
	expect(whyNot("file-system", { applications }, { badScripts: [bad] })).toBeUndefined();
});

test("one that can't be run and must not fail is the job's own failure", () => {
	const badScripts = [bad, { ...bad, onFailure: "fail", error: new StillpointError("script-untrusted", "/z") }];
	expect(whyNot("file-system", { applications: [] }, { badScripts })).toMatchObject({ code: "script-untrusted" });
});

test("where nothing may be frozen only crash is left, and the file that says so is named", () => {
	const disabled = { freezeDisabledBy: "/etc/azure/x.json" };
	const refused = whyNot("file-system", { applications: [shop], freezeDisabled: true }, disabled);
	expect(refused).toMatchObject({ code: "level-unreachable", details: { because: ["freeze-disabled"] } });
	expect(refused?.message).toContain("/etc/azure/x.json: fsFreezeEnabled is false");
	expect(whyNot("crash", { applications: [shop], freezeDisabled: true }, disabled)).toBeUndefined();
});

function whyNot(
	acceptLevel: Order["acceptLevel"],
	evidence: Partial<JobEvidence>,
	record: Record<string, unknown> = {},
): StillpointError | undefined {
	const whole: JobEvidence = {
		requested: "application",
		snapshot: "reported",
		disks: [{ name: "vda", included: true, superblocks: ["8:1"], fileSystemUuids: [] }],
		fileSystems: [],
		uncovered: [],
		lookedAgain: false,
		applications: [],
		...evidence,
	};
	const given = {
		request: { order: { acceptLevel } },
		badScripts: [],
		plan: { targets: [{}] },
		evidence: () => whole,
		...record,
	};
	try {
		requireReachable({ record: given as unknown as JobRecord });
		return undefined;
	} catch (error) {
		return error as StillpointError;
	}
}

import { mkdtempSync } from "node:fs";
import { join } from "node:path";
import { type FuzzGroup, type FuzzTarget, fuzzGroups, type TargetGroup } from "./fuzz-target.ts";

type MakeTargets = (folder: string) => FuzzTarget[] | Promise<FuzzTarget[]>;

/** Loaded when wanted: who fuzzes mount tables needs no WebSocket. */
const makers: Readonly<Record<TargetGroup, () => Promise<MakeTargets>>> = {
	mountinfo: async () => (await import("./targets/mountinfo.ts")).mountInfoTargets,
	sysfs: async () => (await import("./targets/sysfs.ts")).sysfsTargets,
	settings: async () => (await import("./targets/settings.ts")).settingsTargets,
	"script-config": async () => (await import("./targets/script-config.ts")).scriptConfigTargets,
	"local-messages": async () => (await import("./targets/local-messages.ts")).localMessageTargets,
	"controller-messages": async () => (await import("./targets/controller-messages.ts")).controllerMessageTargets,
	reports: async () => (await import("./targets/reports.ts")).reportTargets,
	images: async () => (await import("./targets/images.ts")).imageTargets,
	broken: async () => (await import("./targets/broken.ts")).brokenTargets,
};

export function isFuzzGroup(name: string): name is FuzzGroup {
	return (fuzzGroups as readonly string[]).includes(name);
}

/** @param samplesFolder as `makeSamples` filled it; the targets write their own files into a new folder in it. */
export async function makeTargetsOf(group: TargetGroup, samplesFolder: string): Promise<FuzzTarget[]> {
	const make = await makers[group]();
	return await make(mkdtempSync(join(samplesFolder, `${group}-`)));
}

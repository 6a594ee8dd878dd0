/** What all that was found comes to: pure. */
import type { Check, CheckedDisk, Finding } from "../../contracts/check.ts";
import { atLeast, type Level } from "../../contracts/level.ts";

type Found = Pick<Check, "disks" | "findings" | "frozen" | "wanted">;

/** Protected is what is shown; what could not be learnt is not. */
export function judgeCheck({ disks, findings, frozen, wanted }: Found): Check["state"] {
	const included = disks.filter((one) => one.included);
	const reaches = included.length > 0 && included.every(({ level }) => atLeast(level, wanted));
	if (!reaches || frozen.length > 0 || findings.some(({ status }) => status === "fail")) return "unprotected";
	return findings.every(({ status }) => status === "ok") ? "protected" : "degraded";
}

/** A disk's level as a finding. That nothing proves more than what is wanted stands in no way. */
export function diskFinding({ name, level, because }: CheckedDisk, wanted: Level): Finding {
	const reached = atLeast(level, wanted);
	const what = `${name}: a snapshot taken now would reach ${level}`;
	const why = because.map((one) => one.what).join(" ");
	const remedy = because.map((one) => one.remedy).join(" ");
	return {
		check: "level",
		status: reached ? "ok" : "fail",
		what: reached ? what : `${what}, and ${wanted} is wanted`,
		...(why === "" ? {} : { why }),
		...(remedy === "" ? {} : { remedy }),
	};
}

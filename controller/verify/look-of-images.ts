import type { Level } from "../../contracts/level.ts";
import { atLeast } from "../../contracts/level.ts";
import type { Finding, Verification } from "../../contracts/verification.ts";

/** A `fail` of these means that the images are not what a freeze leaves. */
const deciding: ReadonlySet<Finding["check"]> = new Set([
	"still",
	"torn",
	"mapping",
	"same-instant",
	"structure",
	"members",
	"files",
]);

/**
 * What the images look like, from the findings alone. `file-system` needs a `still` that passed for every file system
 * (each has one, also those that can't be looked into) and no deciding check that failed.
 */
export function looksLike(findings: readonly Finding[]): Verification["looksLike"] {
	const still = findings.filter(({ check }) => check === "still");
	if (still.length === 0) return "none";
	if (still.some(({ status }) => status !== "pass")) return "crash";
	return findings.some(({ check, status }) => deciding.has(check) && status === "fail") ? "crash" : "file-system";
}

/**
 * Whether the label claims no more than the images show. A label that is lower than the look is no lie; but any label
 * rests on images that are there and whole.
 */
export function agreesWith(label: Level, look: Verification["looksLike"], findings: readonly Finding[]): boolean {
	if (findings.some(isBrokenImage)) return label === "none";
	if (!atLeast(label, "file-system")) return true;
	if (look !== "file-system") return false;
	return label !== "application" || !findings.some(({ check, status }) => check === "database" && status === "fail");
}

/** An image that is missing, unreadable or not of its size: the finding names no file system. */
function isBrokenImage({ check, fileSystem, status }: Finding): boolean {
	return check === "structure" && fileSystem === undefined && status === "fail";
}

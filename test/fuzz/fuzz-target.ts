import type { Arbitrary } from "fast-check";
import { StillpointError } from "../../contracts/errors.ts";

/** What comes from outside, by where it comes from. `npm run fuzz -- --group NAME` */
export const fuzzGroups = [
	"mountinfo",
	"sysfs",
	"settings",
	"script-config",
	"local-messages",
	"controller-messages",
	"reports",
	"images",
] as const;
export type FuzzGroup = (typeof fuzzGroups)[number];
/** `broken` is the negative control, and in no run. */
export type TargetGroup = FuzzGroup | "broken";

/**
 * One parser of bytes that others wrote. Fine is: `run` returns, or throws what `mayThrow` lets pass, within a second
 * of CPU time and 64 MiB. `run` throws an `AssertionError` where a property does not hold.
 */
export type FuzzTarget<Input = unknown> = {
	readonly name: string;
	/** File and function, for who reads the table. */
	readonly parser: string;
	readonly inputs: Arbitrary<Input>;
	run(input: Input): unknown;
	/** Default: a `StillpointError` that is not `internal`. */
	readonly mayThrow?: (error: unknown) => boolean;
	readonly limits?: Partial<CaseLimits>;
};

export type CaseLimits = { readonly cpuMs: number; readonly growthBytes: number };
export const usualLimits: CaseLimits = { cpuMs: 1_000, growthBytes: 64 * 1024 * 1024 };

/** Keeps the input's type until it stands in a list with others. */
export function fuzzTarget<Input>(target: FuzzTarget<Input>): FuzzTarget {
	return target as unknown as FuzzTarget;
}

export function isExpected(target: FuzzTarget, error: unknown): boolean {
	if (target.mayThrow !== undefined) return target.mayThrow(error);
	return error instanceof StillpointError && error.code !== "internal";
}

/** For a parser that has no way to fail. */
export function neverThrows(): boolean {
	return false;
}

import { type FreezeCase, freezeCases } from "./cases.ts";

/**
 * The cases whose names begin so, in the order of the table; all, or with `quick` those of `--quick`, when none is named.
 * @throws RangeError when a word is the beginning of no name.
 */
export function chooseCases(beginnings: readonly string[] | undefined, quick: boolean): FreezeCase[] {
	if (beginnings === undefined) return freezeCases.filter((one) => !quick || one.quick === true);
	const unknown = beginnings.find((word) => !freezeCases.some(({ name }) => name.startsWith(word)));
	if (unknown !== undefined) {
		throw new RangeError(`no case "${unknown}": ${freezeCases.map(({ name }) => `"${name}"`).join(", ")}`);
	}
	return freezeCases.filter(({ name }) => beginnings.some((word) => name.startsWith(word)));
}

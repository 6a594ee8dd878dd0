import { InvalidArgumentError } from "commander";

/** A parser for an option that takes a whole number in [least, most]; what is none is a usage error that names the option. */
export function parseCount(least: number, most: number): (text: string) => number {
	return (text) => {
		const count = /^\d{1,15}$/.test(text) ? Number(text) : Number.NaN;
		if (count >= least && count <= most) return count;
		throw new InvalidArgumentError(`Write a whole number from ${least} to ${most}.`);
	};
}

import { resolve } from "node:path";
import { InvalidArgumentError } from "commander";

/** For options that name a file or folder: as the shell's user means it, from where the command was called. */
export function parsePath(value: string): string {
	// Of a variable that is not set; it would name the folder that the command was called in.
	if (value === "") throw new InvalidArgumentError("Write a path.");
	return resolve(value);
}

import { basename } from "node:path";
import type { CheckTrust } from "./application-scripts.ts";

const interpreters = /^(?:ba|da|z|k|a)?sh$|^(?:python|perl|ruby|node|php|lua)[\d.]*$|^env$/;

/**
 * The program itself, and what a known interpreter is told to run: its first argument that is an absolute path.
 * Further arguments are data (a database is its owner's, not root's) and are not checked.
 */
export async function checkScriptTrust(command: readonly string[], checkTrust: CheckTrust): Promise<void> {
	const [program, ...args] = command as [string, ...string[]];
	await checkTrust(program);
	if (!interpreters.test(basename(program))) return;
	const script = args.find((arg) => arg.startsWith("/"));
	if (script !== undefined) await checkTrust(script);
}

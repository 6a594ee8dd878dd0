/** Running a server's client as the user that the server knows. */
import { execFileSync } from "node:child_process";
import { userInfo } from "node:os";
import { exits, HoldError } from "./hold-session.mjs";

/** Of the look-up of a user, which a directory service may answer. */
const lookUpLimitMs = 5_000;

/**
 * With all groups of that user, which spawn(2) of Node would take away: servers that trust the operating system look at
 * them. setpriv becomes the program, so that its pid is the client's.
 *
 * @returns {[string, string[]]} program and arguments
 * @throws HoldError `denied` when we are neither root nor that user, `config` when there is no such user
 */
export function commandAs(user, program, args) {
	if (user === undefined || userInfo().username === user) return [program, args];
	if (process.getuid() !== 0) throw new HoldError(exits.denied, `only root can run ${program} as ${user}`);
	return ["setpriv", [`--reuid=${user}`, `--regid=${readGroup(user)}`, "--init-groups", "--", program, ...args]];
}

/** A user's own group need not have the user's name: of oracle it is commonly oinstall. */
function readGroup(user) {
	try {
		const options = { encoding: "utf8", timeout: lookUpLimitMs, stdio: ["ignore", "pipe", "ignore"] };
		return execFileSync("id", ["-g", "--", user], options).trim();
	} catch (error) {
		const isAnswer = typeof error.status === "number";
		throw new HoldError(exits.config, isAnswer ? `no user ${user} here` : `user ${user}: ${error.message}`);
	}
}

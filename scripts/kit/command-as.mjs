/** Running a server's client as the user that the server knows. */
import { userInfo } from "node:os";
import { exits, HoldError } from "./hold-session.mjs";

/**
 * With all groups of that user, which spawn(2) of Node would take away: servers that trust the operating system look at
 * them. setpriv becomes the program, so that its pid is the client's.
 *
 * @returns {[string, string[]]} program and arguments
 * @throws HoldError `denied` when we are neither root nor that user
 */
export function commandAs(user, program, args) {
	if (user === undefined || userInfo().username === user) return [program, args];
	if (process.getuid() !== 0) throw new HoldError(exits.denied, `only root can run ${program} as ${user}`);
	return ["setpriv", [`--reuid=${user}`, `--regid=${user}`, "--init-groups", "--", program, ...args]];
}

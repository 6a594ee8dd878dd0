import { chmodSync, lstatSync, mkdirSync } from "node:fs";
import { StillpointError } from "../contracts/errors.ts";

/**
 * A folder that only we may enter: made with mode 0700 when absent; else it must be a real folder of ours that is
 * closed to all others. One that exists is only looked at, because mkdir of an existing folder hangs on a frozen disk.
 * @throws `state-unusable`
 */
export function preparePrivateFolder(path: string): void {
	const unusable = (why: string, cause?: unknown) =>
		new StillpointError("state-unusable", `${path} ${why}`, { details: { path }, ...(cause ? { cause } : {}) });
	let found: ReturnType<typeof lstatSync>;
	try {
		found = lstatSync(path, { throwIfNoEntry: false });
		if (found === undefined) {
			mkdirSync(path, { recursive: true, mode: 0o700 });
			found = lstatSync(path);
		}
	} catch (cause) {
		throw unusable(`cannot be made or looked at: ${(cause as NodeJS.ErrnoException).code}`, cause);
	}
	if (found === undefined || !found.isDirectory()) throw unusable("is no folder");
	if (found.uid !== process.getuid?.()) throw unusable(`belongs to uid ${found.uid}`);
	if ((found.mode & 0o077) !== 0) throw unusable(`is open to others (mode ${(found.mode & 0o7777).toString(8)})`);
}

/** SQLite makes its files as the umask allows; in a folder of ours they are closed all the same. @throws `state-unusable` */
export function closeToOthers(path: string): void {
	try {
		if ((lstatSync(path).mode & 0o077) !== 0) chmodSync(path, 0o600);
	} catch (cause) {
		throw new StillpointError("state-unusable", `${path} cannot be closed to others`, { cause, details: { path } });
	}
}

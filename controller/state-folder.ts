import { mkdir, open, readFile, rename, rm, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import { StillpointError } from "../contracts/errors.ts";

/** Where the controller keeps what; everything is 0700 or 0600. */
export function statePaths(stateDir: string) {
	return {
		stateDir,
		ca: join(stateDir, "ca"),
		operator: join(stateDir, "operator"),
		database: join(stateDir, "controller.sqlite"),
		recoveryPoints: join(stateDir, "recovery-points"),
		/** For copies that verification looks at. */
		scratch: join(stateDir, "scratch"),
		readyFile: join(stateDir, "controller.json"),
	};
}

/** `state-unusable` when the folder can't be made. */
export async function makePrivateFolder(path: string): Promise<void> {
	try {
		await mkdir(path, { recursive: true, mode: 0o700 });
	} catch (error) {
		throw unusable(path, error);
	}
}

/** Makes it when it is not there. `state-unusable` when it is not ours alone: others could replace what lies in it. */
export async function openStateFolder(path: string): Promise<void> {
	await makePrivateFolder(path);
	const { mode, uid } = await stat(path);
	if (uid !== process.getuid?.()) throw new StillpointError("state-unusable", `${path} belongs to uid ${uid}`);
	if ((mode & 0o022) === 0) return;
	throw new StillpointError(
		"state-unusable",
		`${path} is writable for group or others (${(mode & 0o777).toString(8)})`,
	);
}

/** Whole or not at all, also through a power cut: new file, fsync, rename, fsync of the folder. Mode 0600. */
export async function writeFileAtomically(path: string, content: string): Promise<void> {
	const temporary = `${path}.new`;
	try {
		await writeDurably(temporary, content);
		await rename(temporary, path);
		await syncPath(dirname(path));
	} catch (error) {
		await rm(temporary, { force: true });
		throw unusable(path, error);
	}
}

export async function writeDurably(path: string, content: string): Promise<void> {
	await using file = await open(path, "w", 0o600);
	await file.writeFile(content);
	await file.sync();
}

export async function syncPath(path: string): Promise<void> {
	await using file = await open(path, "r");
	await file.sync();
}

/** Undefined when there is none. */
export async function readFileIfThere(path: string): Promise<string | undefined> {
	try {
		return await readFile(path, "utf8");
	} catch (error) {
		if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
		throw new StillpointError("state-unusable", `${path} cannot be read`, { cause: error });
	}
}

/** `disk-full` or `state-unusable`. */
export function unusable(path: string, error: unknown): StillpointError {
	const { code, message } = error as NodeJS.ErrnoException;
	const full = code === "ENOSPC" || code === "EDQUOT";
	return new StillpointError(full ? "disk-full" : "state-unusable", `${path}: ${message}`, { cause: error });
}

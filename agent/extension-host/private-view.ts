/** The mount namespace in which a handler written for Azure finds the paths that it has in its code. */
import { existsSync } from "node:fs";
import { mkdir, rmdir } from "node:fs/promises";
import { dirname, join } from "node:path";
import { findSmallFile } from "../../platform/read-small-file.ts";
import { azureLogFolder, azureStateFolder, type HandlerPlace, type HostFolders } from "./handler-place.ts";
import { isMountedSomewhere } from "./handler-processes.ts";
import { replaceFile } from "./replace-file.ts";

/**
 * Runs a command line in a mount namespace of its own: what the host mounts and unmounts still comes in, nothing goes
 * out. The agent's own state is covered, so that no handler comes upon keys of another by chance; root could uncover it.
 * Tells on descriptor 3: `ready` when the view stands, then `exit N`, which is on the disk even when nobody waits.
 */
const viewScript = `set -e
view=$1 logView=$2 logs=$3 name=$4 label=$5 hidden=$6 cwd=$7 command=$8
shift 8
bind() { mount -n --bind "$1" "$2"; }
bind "$view" ${azureStateFolder}
for folder; do bind "$folder" "${azureStateFolder}/\${folder##*/}"; done
bind "$logView" ${azureLogFolder}
bind "$logs" "${azureLogFolder}/$name"
mount -n -t tmpfs -o ro,nosuid,nodev,noexec,size=4k,mode=700 "$label" "$hidden"
cd "$cwd"
set +e
echo ready >&3
/bin/sh -c "$command" 3>&-
echo "exit $?" >&3`;

/** The same account on descriptor 3 for an extension of ours, which needs no view. */
const plainScript = `echo ready >&3
"$@" 3>&-
echo "exit $?" >&3`;

/**
 * @param label of the mount that lies over the agent's state: `mountLabel`
 * @param shown installed folders that the handler sees beside its own: the other version at an update
 */
export function viewCommand(
	place: HandlerPlace,
	host: HostFolders,
	label: string,
	command: string,
	shown: readonly string[],
): [string, ...string[]] {
	const { stateView, logView } = place.private;
	const folders = [...new Set([place.folder, ...shown])];
	const paths = [stateView, logView, place.logFolder, place.name, label, host.stateDir, place.seen.folder];
	const inside = ["/bin/sh", "-c", viewScript, "sh", ...paths, command, ...folders];
	return ["unshare", "--mount", "--propagation", "slave", ...inside];
}

export function plainCommand(words: readonly string[]): [string, ...string[]] {
	return ["/bin/sh", "-c", plainScript, "sh", ...words];
}

/** Folders that the mounts go onto. */
export async function prepareView(place: HandlerPlace, shown: readonly string[]): Promise<void> {
	const { stateView, logView } = place.private;
	const entries = [place.folder, ...shown].map((folder) => join(stateView, folder.slice(dirname(folder).length + 1)));
	for (const folder of [...entries, join(logView, place.name), place.eventsFolder])
		await mkdir(folder, { recursive: true, mode: 0o700 });
}

/** Removes the mount point of a version that is gone. */
export async function dropFromView(place: HandlerPlace): Promise<void> {
	await rmdir(join(place.private.stateView, `${place.name}-${place.version}`)).catch(() => undefined);
}

const mountPoints = [azureStateFolder, azureLogFolder];
const noteName = "made-mount-points.json";

/** The host needs two empty folders to mount onto. That we made one is noted before, so that no other is ever removed. */
export async function makeMountPoints(extensionsDir: string): Promise<void> {
	const missing = mountPoints.filter((path) => !existsSync(path));
	if (missing.length === 0) return;
	const note = join(extensionsDir, ".private", noteName);
	const made = new Set([...(await readNote(note)), ...missing]);
	await replaceFile(note, JSON.stringify([...made]));
	for (const path of missing) await mkdir(path, { recursive: true, mode: 0o700 });
}

/**
 * Removes those that we made, once no process has anything mounted on them: to remove one earlier would unmount it in
 * the namespace of a daemon. One that somebody else put something into stays.
 */
export async function removeMountPoints(extensionsDir: string): Promise<void> {
	const note = join(extensionsDir, ".private", noteName);
	const made = (await readNote(note)).filter((path) => mountPoints.includes(path));
	if (made.length === 0) return;
	const left: string[] = [];
	for (const path of made) {
		if (isMountedSomewhere(path)) left.push(path);
		else await rmdir(path).catch(() => undefined);
	}
	await replaceFile(note, JSON.stringify(left));
}

async function readNote(path: string): Promise<string[]> {
	const text = await findSmallFile(path, { code: "state-unusable", limitBytes: 4_096 }).catch(() => undefined);
	try {
		const value: unknown = JSON.parse(text ?? "[]");
		return Array.isArray(value) ? value.filter((one) => typeof one === "string") : [];
	} catch {
		return [];
	}
}

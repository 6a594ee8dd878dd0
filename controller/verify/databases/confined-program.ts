import { randomInt } from "node:crypto";
import { mkdir, rm, statfs } from "node:fs/promises";
import { setInterval } from "node:timers/promises";
import { execa } from "execa";
import type { ToolResult } from "../image-tools.ts";
import { firstLine, runTool } from "../image-tools.ts";
import { reservedBytes } from "./copy-tree.ts";

export type ConfinedOptions = {
	/** Seen as /copy, writable, and given to the user of the run. Nothing in it can be executed. */
	folder: string;
	/** Of one file that is written. */
	mostFileBytes: number;
	limitMs: number;
	signal: AbortSignal;
};

const mostOutputBytes = 4 << 20;
const mostMemoryBytes = 8 * 2 ** 30;
/** The last ids that no system hands out to anybody (systemd's table of user ids: 1879048192 to 2147483647 unused). */
const userIds = { from: 1_879_048_192, to: 2_147_483_647 } as const;

/**
 * Runs a shell script on data of a hostile guest, as one who may do nothing: a user of its own without any right, and
 * none to be won; no network, no other processes, no files of this host but /usr and what programs need to start;
 * nothing executable that it could write. When the first process ends, or the caller does, however that happens, the
 * kernel ends all the others, whatever they ignore.
 */
export async function runConfined(
	script: string,
	args: readonly string[],
	{ folder, mostFileBytes, limitMs, signal }: ConfinedOptions,
): Promise<ToolResult> {
	const root = `${folder}-root`;
	await mkdir(root, { mode: 0o700 });
	try {
		const user = String(randomInt(userIds.from, userIds.to));
		for (const [tool, ...how] of [
			["chown", "--recursive", "--no-dereference", `${user}:${user}`],
			["chmod", "--recursive", "u=rwX,go="],
		] as const) {
			const given = await runTool(tool, [...how, folder], signal);
			if (given.exitCode !== 0) return { ...given, failure: given.failure ?? firstLine(given.output) };
		}
		using full = watchSpace(folder);
		const result = await execa(
			"setpriv",
			[
				...["--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--net", "--ipc", "--uts", "--cgroup"],
				...["--propagation", "private", "--fork", "--kill-child", "sh", "-c", boxScript, "sh"],
				...[root, folder, user, String(mostFileBytes), String(mostMemoryBytes), "sh", "-c", script, "sh", ...args],
			],
			{
				reject: false,
				all: true,
				stdin: "ignore",
				cancelSignal: AbortSignal.any([signal, full.signal]),
				timeout: limitMs,
				killSignal: "SIGKILL",
				maxBuffer: mostOutputBytes,
				cwd: "/",
				env: { LC_ALL: "C" },
			},
		);
		signal.throwIfAborted();
		const output = typeof result.all === "string" ? result.all : "";
		const failure = whyNotEnded(result, full.signal.aborted, limitMs);
		return failure === undefined ? { exitCode: result.exitCode, output } : { exitCode: undefined, output, failure };
	} finally {
		await rm(root, { recursive: true, force: true });
	}
}

function whyNotEnded(
	result: {
		code?: string | undefined;
		timedOut: boolean;
		isMaxBuffer: boolean;
		exitCode?: number | undefined;
		shortMessage?: string | undefined;
		all?: unknown;
	},
	full: boolean,
	limitMs: number,
): string | undefined {
	if (result.code === "ENOENT") return "setpriv is not installed";
	if (full) return "it filled the scratch folder";
	if (result.timedOut) return `it did not end within ${Math.round(limitMs / 1000)} s`;
	if (result.isMaxBuffer) return `it said more than ${mostOutputBytes} bytes`;
	if (result.exitCode === 125) return `it can't be confined here: ${String(result.all ?? "").slice(0, 300)}`;
	return result.exitCode === undefined ? (result.shortMessage ?? "it was ended") : undefined;
}

/** Aborted when the file system of the folder is nearly full. */
function watchSpace(folder: string): Disposable & { signal: AbortSignal } {
	const full = new AbortController();
	const stop = new AbortController();
	const watch = async () => {
		for await (const _ of setInterval(1_000, undefined, { signal: stop.signal })) {
			const { bavail, bsize } = await statfs(folder);
			if (bavail * bsize < reservedBytes / 4) return full.abort();
		}
	};
	void watch().catch(() => undefined);
	return { signal: full.signal, [Symbol.dispose]: () => stop.abort() };
}

/**
 * Arguments: an empty folder for the new root, the folder of the copy, a user id, bytes of a file, bytes of memory, and
 * what to run. The old root goes away, so that nothing that this host unmounts meanwhile is kept busy. What runs stands
 * in a chroot of the new one, because the kernel gives no user namespace to who stands in a chroot, and so no way to
 * the rights that one has in it. The OOM killer takes these processes first.
 */
const boxScript = `set -e
trap '[ $? = 0 ] || [ -n "$ready" ] || exit 125' EXIT
PATH=/usr/sbin:/usr/bin:/sbin:/bin ready=
root=$1 copy=$2 user=$3 most_file=$4 most_memory=$5; shift 5
echo 1000 >/proc/self/oom_score_adj
mount -t tmpfs -o mode=755,size=4m,nosuid none "$root"
cd "$root"
mkdir old box proc
cd box
mkdir usr etc dev dev/shm run tmp copy
show() { mount --bind "$1" "$2"; mount -o "remount,bind,nosuid,nodev,$3" "$2"; }
for folder in bin sbin lib lib32 lib64 libx32; do
	if [ -L "/$folder" ]; then cp --no-dereference "/$folder" "$folder"
	elif [ -d "/$folder" ]; then mkdir "$folder"; show "/$folder" "$folder" ro
	else continue
	fi
	ln -s "box/$folder" "../$folder"
done
show /usr usr ro
ln -s box/usr ../usr
for file in ld.so.cache localtime; do [ ! -e "/etc/$file" ] || cp --dereference "/etc/$file" "etc/$file"; done
echo "check:x:$user:$user::/copy:/bin/false" >etc/passwd
for device in null zero random urandom; do : >"dev/$device"; mount --bind "/dev/$device" "dev/$device"; done
for folder in run tmp dev/shm; do mount -t tmpfs -o mode=1777,size=256m,nosuid,nodev,noexec none "$folder"; done
show "$copy" copy noexec
cd "$root"
mount -o remount,ro .
pivot_root . old
cd /
mount -t proc none proc
umount --lazy /old
umount --lazy /proc
ready=yes
set +e
prlimit --core=0 --nproc=256 --nofile=8192 --fsize="$most_file" --as="$most_memory" \\
	chroot /box setpriv --reuid "$user" --regid "$user" --clear-groups --no-new-privs \\
	--bounding-set=-all --inh-caps=-all \\
	/usr/bin/env -i PATH=/usr/bin:/bin LC_ALL=C HOME=/copy "$@" </box/dev/null`;

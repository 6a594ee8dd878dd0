import { mkdir, rmdir } from "node:fs/promises";
import { join } from "node:path";
import { execa } from "execa";
import type { ImagePart } from "./image-tools.ts";
import { attachScript, firstLine, partArguments, runTool } from "./image-tools.ts";

export type PrivateMounts = AsyncDisposable & {
	/**
	 * Mounts images in a mount namespace of its own. Nothing else on the machine sees the mount, and it vanishes with
	 * this process, whatever ends it: the namespace dies with its holder, and the loop devices clear themselves.
	 * @returns the folder to read from (a path through /proc), or why it can't be mounted.
	 */
	mount(images: readonly ImagePart[], options: MountOptions): Promise<{ folder: string } | MountFailure>;
	unmountAll(): Promise<void>;
};

/** `ofMachine`: nothing on this machine can be mounted so (no right, no loop device, no such file system in the kernel). */
export type MountFailure = { failure: string; ofMachine: boolean };

export type MountOptions = { fsType: string; options: string; readOnly: boolean };

/** @param folders of the images: they and the scratch folder stay reachable in the namespace. */
export async function openPrivateMounts(
	scratchDir: string,
	folders: readonly string[],
	signal: AbortSignal,
): Promise<PrivateMounts> {
	const own = ["--mount", "--propagation", "private", "sh", "-c", holderScript, "sh"];
	const holder = execa("unshare", [...own, scratchDir, ...folders, ...programFolders()], {
		stdin: "pipe",
		reject: false,
		cancelSignal: signal,
		buffer: false,
		stderr: "ignore",
	});
	const failure = await Promise.race([
		new Promise<undefined>((resolve) => holder.stdout?.once("data", () => resolve(undefined))),
		holder.then((ended) => `no mount namespace of its own: ${ended.shortMessage ?? "unshare ended"}`),
	]);
	const mounted: string[] = [];
	let next = 0;
	const inside = ["--mount", "--target", String(holder.pid)];
	const unmountAll = async () => {
		for (const point of mounted.splice(0).reverse()) {
			await runTool("nsenter", [...inside, "umount", point], signal);
			await rmdir(point).catch(() => undefined);
		}
	};
	return {
		async mount(images, { fsType, options, readOnly }) {
			if (failure !== undefined) return { failure, ofMachine: true };
			next += 1;
			const point = join(scratchDir, `mount-${process.pid}-${next}`);
			await mkdir(point, { mode: 0o700 });
			const access = readOnly ? "ro" : "rw";
			const script = ["sh", "-c", mountScript, "sh", access, fsType, `${access},${options}`, point];
			const result = await runTool("nsenter", [...inside, ...script, ...images.flatMap(partArguments)], signal);
			if (result.exitCode !== 0) {
				await rmdir(point).catch(() => undefined);
				const why = result.failure ?? firstLine(result.output);
				const ofMachine = result.failure !== undefined || result.exitCode === 125 || missingHere.test(result.output);
				return { failure: why, ofMachine };
			}
			mounted.push(point);
			return { folder: join("/proc", String(holder.pid), "root", point) };
		},
		unmountAll,
		async [Symbol.asyncDispose]() {
			// The namespace and all its mounts go with its last process.
			holder.stdin?.end();
			await holder;
			for (const point of mounted) await rmdir(point).catch(() => undefined);
		},
	};
}

/** Programs and their libraries may lie on mounts of their own. */
function programFolders(): string[] {
	return [process.execPath, "/usr/bin", "/usr/sbin", "/usr/lib", "/bin", "/sbin", "/lib", "/etc", "/nix", "/gnu"];
}

/**
 * A new namespace has a copy of each mount of this machine, and would keep it in use when others unmount it: for as long
 * as a verification lasts, and unclean in a snapshot meanwhile. So what leads to none of the arguments is detached.
 */
const holderScript = `mounts=$(cat /proc/self/mountinfo)
printf '%s\\n' "$mounts" | while read -r _ _ _ _ point _; do
	point=$(printf '%b.' "$point"); point=\${point%.}
	case $point/ in //|/dev/*|/proc/*|/sys/*|/run/) continue ;; esac
	for folder; do case $folder/ in "$point"/*) continue 2 ;; esac; done
	umount --lazy "$point" 2>/dev/null
done
echo ready; exec cat`;

/** What mount(8) says when it is not the image's fault. */
const missingHere = /unknown filesystem type|permission denied|must be superuser|not permitted/i;

/** Detaching a mounted loop device makes it clear itself when it is unmounted. */
const mountScript = `${attachScript}
access=$1 type=$2 options=$3 point=$4; shift 4
first=
while [ $# -ge 3 ]; do
	attach "$1" "$2" "$3" || exit 125
	if [ -z "$first" ]; then first=$device; else options="$options,device=$device"; fi
	shift 3
done
mount -t "$type" -o "$options" "$first" "$point"`;

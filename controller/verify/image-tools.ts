import { execa } from "execa";
import type { Member } from "./found-file-system.ts";

/** What a tool answered; `failure` when it could not be run to its end, `endless` when it was stopped for saying too much. */
export type ToolResult = { exitCode: number | undefined; output: string; failure?: string; endless?: true };

export type ImagePart = Pick<Member, "imagePath" | "offsetBytes" | "sizeBytes">;

/** Longer than any checker that gets anywhere; a hostile image must not hold us for ever. */
const toolLimitMs = 30 * 60_000;
const mostOutputBytes = 4 << 20;

/** Runs a checker on read-only loop devices over parts of images; the name of the first is added to its arguments. */
export async function runOnImages(
	tool: string,
	args: readonly string[],
	images: readonly ImagePart[],
	signal: AbortSignal,
): Promise<ToolResult> {
	const parts = images.flatMap(partArguments);
	const result = await runTool(
		"bash",
		["-c", toolScript, "bash", String(images.length), ...parts, tool, ...args],
		signal,
	);
	if (result.exitCode === 127) return { ...result, exitCode: undefined, failure: `${tool} is not installed` };
	if (result.exitCode === 125) return { ...result, exitCode: undefined, failure: firstLine(result.output) };
	return result;
}

export async function runTool(tool: string, args: readonly string[], signal: AbortSignal): Promise<ToolResult> {
	const result = await execa(tool, args, {
		reject: false,
		all: true,
		stdin: "ignore",
		cancelSignal: signal,
		timeout: toolLimitMs,
		forceKillAfterDelay: 5_000,
		maxBuffer: mostOutputBytes,
		env: { LC_ALL: "C" },
	});
	signal.throwIfAborted();
	const output = typeof result.all === "string" ? result.all : "";
	if (result.code === "ENOENT") return { exitCode: undefined, output, failure: `${tool} is not installed` };
	if (result.isMaxBuffer) {
		return { exitCode: undefined, output, failure: `${tool} said more than ${mostOutputBytes} bytes`, endless: true };
	}
	if (result.exitCode === undefined) return { exitCode: undefined, output, failure: result.shortMessage ?? tool };
	return { exitCode: result.exitCode, output };
}

/** Its first line that says something. */
export function firstLine(output: string): string {
	return (output.split("\n").find((line) => line.trim() !== "") ?? "no message").trim().slice(0, 300);
}

export function partArguments({ imagePath, offsetBytes, sizeBytes }: ImagePart): string[] {
	return [imagePath, String(offsetBytes), String(sizeBytes)];
}

/**
 * `attach IMAGE OFFSET SIZE` appends to $devices; looking for a free loop device races with others that look. Whatever
 * ends the script detaches them, also a signal that comes between losetup and the note of its answer.
 */
export const attachScript = `PATH=$PATH:/usr/sbin:/sbin
device= devices=
note() {
	case " $devices " in *" $device "*) ;; *) devices="\${devices:+$devices }$device" ;; esac
}
trap 'note; [ -z "$devices" ] || losetup --detach $devices' EXIT
trap 'exit 143' TERM INT
attach() {
	flag=; [ "$access" = ro ] && flag=--read-only
	for try in 1 2 3 4 5; do
		device=$(losetup --find --show $flag --offset "$2" --sizelimit "$3" "$1") && note && return 0
		sleep 0.1
	done
	return 1
}
`;

/**
 * The tool runs in a mount namespace whose /dev holds these loop devices and nothing else: the tools of btrfs look for
 * members on every block device, and take those of the original for members of its copy (btrfs-progs 6.2).
 */
const toolScript = `${attachScript}
access=ro count=$1; shift
trap '[ -z "$!" ] || kill "$!" 2>/dev/null; exit 143' TERM INT
while [ "$count" -gt 0 ]; do
	attach "$1" "$2" "$3" || exit 125
	shift 3; count=$((count - 1))
done
nodes=$(stat --format='/dev/null 1 3 c
%n 0x%t 0x%T b' $devices)
export nodes BLKID_FILE=/dev/null
unshare --mount --propagation private sh -c '
	mount -t tmpfs -o mode=755,size=64k none /dev || exit 125
	echo "$nodes" | while read -r name major minor kind; do
		[ -e "$name" ] || mknod -m 600 "$name" "$kind" "$major" "$minor" || exit
	done
	exec "$@"' sh "$@" \${devices%% *} &
wait $!`;

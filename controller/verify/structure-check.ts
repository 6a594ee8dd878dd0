import type { FileSystemInImages, Verdict } from "./found-file-system.ts";
import type { ImagePart } from "./image-tools.ts";
import { firstLine, runOnImages } from "./image-tools.ts";
import type { PrivateMounts } from "./private-mounts.ts";

type Checker = { tool: string; args: readonly string[]; recover: string };

/** What mends nothing, and the mount options with which a restored disk would first be mounted. */
const ext: Checker = { tool: "e2fsck", args: ["-f", "-n"], recover: "noatime" };
const checkers: Readonly<Record<string, Checker>> = {
	ext2: ext,
	ext3: ext,
	ext4: ext,
	xfs: { tool: "xfs_repair", args: ["-n"], recover: "nouuid,noatime" },
	btrfs: { tool: "btrfs", args: ["check", "--readonly"], recover: "noatime" },
};

/**
 * What the file system's own checker finds.
 * @param options.recover first let the kernel do what it does on the first mount after a restore (replay the log,
 * remove files that were unlinked but open): on copies only.
 */
export async function checkStructure(
	fileSystem: FileSystemInImages,
	parts: readonly ImagePart[],
	options: { recover: boolean; mounts: PrivateMounts; signal: AbortSignal },
): Promise<Verdict> {
	const checker = checkers[fileSystem.fsType];
	if (!checker) return { status: "unknown", detail: `no checker for ${fileSystem.fsType}` };
	const evidence = [checker.tool, ...checker.args].join(" ");
	if (options.recover) {
		const mounted = await options.mounts.mount(parts, {
			fsType: fileSystem.fsType,
			options: `nodev,nosuid,noexec,${checker.recover}`,
			readOnly: false,
		});
		await options.mounts.unmountAll();
		// A kernel that lacks the file system or the right to mount is no fault of the image; the checker has the word.
		if ("failure" in mounted && fileSystem.fsType === "xfs") {
			return { status: "unknown", detail: `a copy can't be mounted to replay its log: ${mounted.failure}`, evidence };
		}
	}
	// The tools of btrfs find the other members of a copy by its fsid, which no other device has.
	const result = await runOnImages(checker.tool, checker.args, parts, options.signal);
	if (result.failure !== undefined) return { status: "unknown", detail: result.failure, evidence };
	if (result.exitCode === 0) {
		return {
			status: "pass",
			detail: `${checker.tool} finds nothing${options.recover ? " after the first mount" : ""}`,
			evidence,
		};
	}
	const detail = `${checker.tool} (exit ${result.exitCode}): ${complaint(result.output)}`;
	return { status: "fail", detail, evidence };
}

/** The first lines of a checker that are no progress report. */
function complaint(output: string): string {
	const quiet = /^(Phase|Pass|\s*- |e2fsck \d|\[\d|Opening filesystem|Checking filesystem|UUID:|No modify flag|\s*$)/;
	const lines = output.split("\n").filter((line) => !quiet.test(line));
	return lines.length > 0
		? lines
				.slice(0, 4)
				.map((line) => firstLine(line))
				.join("; ")
		: firstLine(output);
}

import type { FileSystemInImages, Verdict } from "./found-file-system.ts";
import type { ImagePart } from "./image-tools.ts";
import { firstLine, runOnImages } from "./image-tools.ts";
import { recoveringOptions } from "./mount-options.ts";
import type { MountFailure, PrivateMounts } from "./private-mounts.ts";

type Checker = { tool: string; args: readonly string[] };

/** What mends nothing. */
const ext: Checker = { tool: "e2fsck", args: ["-f", "-n"] };
const checkers: Readonly<Record<string, Checker>> = {
	ext2: ext,
	ext3: ext,
	ext4: ext,
	xfs: { tool: "xfs_repair", args: ["-n"] },
	btrfs: { tool: "btrfs", args: ["check", "--readonly"] },
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
	const mounted = options.recover ? await recover(fileSystem, parts, options.mounts) : undefined;
	// The tools of btrfs find the other members of a copy by its fsid, which no other device has.
	const result = await runOnImages(checker.tool, checker.args, parts, options.signal);
	// A checker that complains without end has found fault.
	if (result.endless) return { status: "fail", detail: result.failure ?? "", evidence };
	if (result.failure !== undefined) return { status: "unknown", detail: result.failure, evidence };
	const after = options.recover && !mounted ? " after the first mount" : "";
	if (result.exitCode === 0) return { status: "pass", detail: `${checker.tool} finds nothing${after}`, evidence };
	const detail = `${checker.tool} (exit ${result.exitCode})${after}: ${complaint(result.output)}`;
	if (!mounted) return { status: "fail", detail, evidence };
	// Without the recovery checkers complain of what it would have put right.
	return {
		status: mounted.ofMachine ? "unknown" : "fail",
		detail: `not mountable: ${mounted.failure}; ${detail}`,
		evidence,
	};
}

async function recover(
	{ fsType }: FileSystemInImages,
	parts: readonly ImagePart[],
	mounts: PrivateMounts,
): Promise<MountFailure | undefined> {
	const mounted = await mounts.mount(parts, { fsType, options: recoveringOptions(fsType), readOnly: false });
	await mounts.unmountAll();
	return "failure" in mounted ? mounted : undefined;
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

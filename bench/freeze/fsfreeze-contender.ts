import { execa } from "execa";
import { monotonicMs } from "../hold-once.ts";
import type { Contender } from "./contender.ts";

/**
 * What an admin's script does: one fsfreeze(8) after another, and back. Each word is a freeze or a thaw and its mount
 * point; a thaw is tried whatever became of the freezes.
 */
const program = `
status=0
while [ $# -gt 0 ]; do
	[ "$1 $status" = "-f 1" ] || fsfreeze "$1" "$2" || status=1
	shift 2
done
exit $status
`;

/** @param mountPoints Upper layers first, as they are frozen; thawed in the opposite order. */
export function fsfreezeContender(mountPoints: readonly string[]): Contender {
	return {
		name: "fsfreeze",
		isExpedited: false,
		async run(mayFreeze) {
			const thaws = mountPoints.toReversed().flatMap((point) => ["-u", point]);
			const words = [...mountPoints.flatMap((point) => ["-f", point]), ...thaws];
			await mayFreeze();
			const fromMs = monotonicMs();
			// Not ended by a signal: what it froze it must thaw.
			await execa("sh", ["-c", program, "sh", ...words], { cwd: "/" });
			const untilMs = monotonicMs();
			return { frozen: { fromMs, untilMs }, job: { fromMs, untilMs }, own: {} };
		},
	};
}

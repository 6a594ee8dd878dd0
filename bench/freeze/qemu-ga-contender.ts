import { monotonicMs } from "../hold-once.ts";
import type { Contender } from "./contender.ts";
import type { QemuGa } from "./qemu-ga-process.ts";

type FileSystem = { mountpoint: string };

/**
 * Freeze of a list and thaw through its socket, as libvirt and Proxmox ask for it. Never without a list: that would
 * freeze the machine's root.
 * @throws before anything is frozen, when qemu-ga sees a file system that is neither named nor what the images lie on.
 */
export async function qemuGaContender(qemuGa: QemuGa, mountPoints: readonly string[]): Promise<Contender> {
	if (mountPoints.length === 0) throw new Error("nothing to freeze: an empty list is none");
	const seen = (await qemuGa.call("guest-get-fsinfo")) as FileSystem[];
	const strangers = findStrangers(
		seen.map(({ mountpoint }) => mountpoint),
		mountPoints,
	);
	if (strangers.length > 0) throw new Error(`qemu-ga would also thaw ${strangers.join(", ")}`);
	return {
		name: "qemuGa",
		isExpedited: false,
		async run(mayFreeze) {
			await mayFreeze();
			const fromMs = monotonicMs();
			let frozen: unknown;
			let frozenAtMs = fromMs;
			let thawed: unknown;
			try {
				frozen = await qemuGa.call("guest-fsfreeze-freeze-list", { mountpoints: mountPoints });
				frozenAtMs = monotonicMs();
			} finally {
				thawed = await qemuGa.call("guest-fsfreeze-thaw");
			}
			const untilMs = monotonicMs();
			if (frozen !== mountPoints.length || thawed !== mountPoints.length) {
				throw new Error(`qemu-ga froze ${frozen} and thawed ${thawed} of ${mountPoints.length}`);
			}
			const interval = { fromMs, untilMs };
			return {
				frozen: interval,
				job: interval,
				own: { freezeMs: frozenAtMs - fromMs, thawMs: untilMs - frozenAtMs, frozenMs: untilMs - fromMs },
			};
		},
	};
}

/** Those that qemu-ga sees and a thaw would reach, without ours and the folders that ours lie in. */
export function findStrangers(seen: readonly string[], mountPoints: readonly string[]): string[] {
	return seen.filter((point) => {
		const inside = point === "/" ? "/" : `${point}/`;
		return !mountPoints.includes(point) && !mountPoints.some((one) => one.startsWith(inside));
	});
}

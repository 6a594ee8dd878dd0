/** Other programs on this machine that freeze file systems when their hosts ask: pure. */
import type { Finding } from "../../contracts/check.ts";
import type { Process } from "./processes.ts";

const freezers: readonly { readonly name: RegExp; readonly what: string; readonly remedy: string }[] = [
	{
		name: /^qemu-ga$/,
		what: "the QEMU guest agent",
		remedy:
			"Block its freeze commands (qemu-ga --block-rpcs=guest-fsfreeze-freeze,guest-fsfreeze-freeze-list), or take no snapshots with --quiesce.",
	},
	{
		name: /^(vmtoolsd|vmware-guestd)$/,
		what: "open-vm-tools",
		remedy: "Take VMware snapshots of this machine without quiescing.",
	},
	{
		name: /^hv_vss_daemon$/,
		what: "the Hyper-V VSS daemon",
		remedy: "Disable the service hv-vss-daemon, or Hyper-V's backup (volume checkpoint).",
	},
];
const azureExtension = /^Microsoft\.Azure\.RecoveryServices\.VMSnapshotLinux-/;

export function mayBeFreezer(name: string): boolean {
	return freezers.some((one) => one.name.test(name));
}

/** @param azureFolders names in /var/lib/waagent */
export function otherFreezerFindings(processes: readonly Process[], azureFolders: readonly string[]): Finding[] {
	const running = freezers.filter((one) => processes.some(({ name }) => one.name.test(name)));
	const azure = azureFolders.some((name) => azureExtension.test(name))
		? [
				{
					what: "Azure's own VMSnapshotLinux",
					remedy: "Let one of the two make the backups: disable Azure Backup for this machine, or its extension.",
				},
			]
		: [];
	const all = [...running, ...azure];
	if (all.length === 0)
		return [{ check: "other-freezers", status: "ok", what: "no other program that freezes is known here" }];
	return all.map(({ what, remedy }) => ({
		check: "other-freezers",
		status: "warn",
		what: `${what} is here, and may freeze too`,
		why: "Of two freezes at a time the kernel lets one through; the other job is worth crash.",
		remedy,
	}));
}

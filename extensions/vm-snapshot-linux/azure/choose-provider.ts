import { asStillpointError, type StillpointError } from "../../../contracts/errors.ts";
import { azureCodeOf, azureError } from "./azure-codes.ts";
import type { AzureTask, SnapshotSource } from "./azure-task.ts";
import { guestProvider } from "./guest-provider.ts";
import { hostProvider } from "./host-provider.ts";
import type { LunDisk } from "./lun-disks.ts";
import type { ChosenProvider, SnapshotProvider } from "./snapshot-provider.ts";

type Kind = "guest" | "host";
const turns: Readonly<Record<SnapshotSource, readonly Kind[]>> = {
	onlyGuest: ["guest"],
	onlyHost: ["host"],
	firstGuestThenHost: ["guest", "host"],
	firstHostThenGuest: ["host", "guest"],
};

/** What the machine's admin says counts, unless only the host can take such disks. */
export function sourceOf(task: Pick<AzureTask, "source">, override: SnapshotSource | undefined): SnapshotSource {
	return task.source === "onlyHost" ? "onlyHost" : (override ?? task.source);
}

/**
 * The first provider that is prepared. It is all decided here, before the freeze: in the window nobody steps in for
 * the one that was chosen. @throws `prepare-failed` of the first one, when none is
 */
export async function chooseProvider(
	task: AzureTask,
	disks: readonly LunDisk[],
	given: {
		readonly source: SnapshotSource;
		readonly address: string;
		readonly requestLimitMs: number;
		/** Looks again where the disks are. */
		readonly findDisks: () => Promise<readonly LunDisk[]>;
		readonly signal: AbortSignal;
	},
): Promise<ChosenProvider> {
	const passedOver: StillpointError[] = [];
	for (const kind of turns[given.source]) {
		let provider: SnapshotProvider | undefined;
		try {
			provider = kind === "guest" ? guestProvider(task, disks) : hostProvider(task, disks, given);
			await provider.prepare(given.signal);
			return { provider, passedOver };
		} catch (error) {
			provider?.[Symbol.dispose]();
			given.signal.throwIfAborted();
			passedOver.push(asStillpointError(error));
		}
	}
	const [first] = passedOver;
	const why = passedOver.map(({ message }) => message).join("; ");
	throw azureError("prepare-failed", first === undefined ? 15 : azureCodeOf(first), why);
}

import { setTimeout as sleep } from "node:timers/promises";
import { writeWholeFile } from "./write-whole-file.ts";

export type Heartbeat = { readonly ready: boolean; readonly code?: number; readonly message: string };

/** Azure's shape of the heartbeat file. */
export async function writeHeartbeat(heartbeatFile: string, beat: Heartbeat): Promise<void> {
	const heartbeat = {
		status: beat.ready ? "ready" : "notready",
		code: beat.code ?? 0,
		formattedMessage: { lang: "en-US", message: beat.message },
	};
	await writeWholeFile(heartbeatFile, JSON.stringify([{ version: 1.0, heartbeat }]));
}

/**
 * Beats at once and every `intervalMs` until the signal, for manifests with `reportHeartbeat`. Azure calls a handler
 * unresponsive when its file is older than 10 min; other hosts are less patient.
 * @param read what to say; what it throws is said as "not ready"
 */
export async function keepHeartbeat(
	heartbeatFile: string,
	read: () => Promise<Heartbeat> | Heartbeat,
	given: { signal: AbortSignal; intervalMs?: number },
): Promise<void> {
	while (!given.signal.aborted) {
		const beat = await Promise.resolve()
			.then(read)
			.catch((error: unknown) => ({
				ready: false,
				code: 1,
				message: error instanceof Error ? error.message : String(error),
			}));
		// A full disk is no reason to end the work: the next beat may get through, and silence is noticed by the host.
		await writeHeartbeat(heartbeatFile, beat).catch(() => undefined);
		await sleep(given.intervalMs ?? 30_000, undefined, { signal: given.signal, ref: false }).catch(() => undefined);
	}
}

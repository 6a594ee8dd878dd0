import { heartbeatFileSchema } from "../../contracts/handler-files.ts";
import { findSmallFile } from "../../platform/read-small-file.ts";
import { findWrittenMs } from "./handler-status-file.ts";
import type { HostLimits } from "./host-ports.ts";

export type Heartbeat = { readonly state: "ready" | "notready" | "unknown" | "unresponsive"; readonly message: string };

const maxBytes = 64 * 1024;

/**
 * What the heartbeat file says. Its age counts first: a handler may only touch it. None yet is as old as the handler.
 * @param sinceMs when the handler was enabled, on the wall clock
 */
export async function readHeartbeat(
	path: string,
	sinceMs: number,
	nowMs: number,
	limits: Pick<HostLimits, "heartbeatUnknownMs" | "heartbeatUnresponsiveMs">,
): Promise<Heartbeat> {
	const writtenMs = await findWrittenMs(path);
	const ageMs = nowMs - (writtenMs ?? sinceMs);
	const message = `no heartbeat for ${Math.round(ageMs / 1000)} s`;
	if (ageMs > limits.heartbeatUnresponsiveMs) return { state: "unresponsive", message };
	if (writtenMs === undefined || ageMs > limits.heartbeatUnknownMs) return { state: "unknown", message };
	const text = await findSmallFile(path, { code: "extension-failed", limitBytes: maxBytes }).catch(() => undefined);
	return parseHeartbeat(text ?? "") ?? { state: "unknown", message: "the heartbeat file is malformed" };
}

export function parseHeartbeat(text: string): Heartbeat | undefined {
	try {
		const { heartbeat } = heartbeatFileSchema.parse(JSON.parse(text));
		const message = heartbeat.formattedMessage || (heartbeat.message ?? "");
		return { state: heartbeat.status === "ready" ? "ready" : "notready", message };
	} catch {
		return undefined;
	}
}

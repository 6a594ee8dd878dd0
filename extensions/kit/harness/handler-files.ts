import { readdir, readFile, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { checkShape } from "../../../contracts/check-shape.ts";
import { StillpointError } from "../../../contracts/errors.ts";
import { handlerStatusFileSchema } from "../../../contracts/extension.ts";

export type ReadStatus = {
	readonly status: "transitioning" | "success" | "warning" | "error";
	readonly code: number;
	readonly operation: string;
	readonly message: string;
	readonly substatus: readonly { name: string; status: string; code: number; message: string }[];
	/** The file as it is: for what other hosts read of it. */
	readonly content: unknown;
};

/** Undefined when there is no such file. @throws `extension-invalid` when it has another shape */
export async function findStatusFile(path: string): Promise<ReadStatus | undefined> {
	const text = await readFile(path, "utf8").catch(() => undefined);
	if (text === undefined) return undefined;
	const invalid = (what: string) => new StillpointError("extension-invalid", `${path}: ${what}`);
	let content: unknown;
	try {
		content = JSON.parse(text);
	} catch {
		throw invalid("is no JSON; write it beside and rename it");
	}
	const parsed = checkShape(handlerStatusFileSchema, withDefaults(content));
	const issue = parsed.error?.issues[0];
	if (issue !== undefined) throw invalid(`${issue.path.join(".")}: ${issue.message}`);
	const status = parsed.data?.[0]?.status;
	if (status === undefined) throw invalid("is empty");
	const { formattedMessage, substatus, ...rest } = status;
	return {
		...rest,
		message: formattedMessage.message,
		substatus: substatus.map(({ formattedMessage: said, ...one }) => ({ ...one, message: said.message })),
		content,
	};
}

/** What hosts do not insist on. */
function withDefaults(content: unknown): unknown {
	if (!Array.isArray(content)) return content;
	const [first] = content;
	if (typeof first?.status !== "object" || first.status === null) return content;
	const { timestampUTC } = first;
	const isoTime = typeof timestampUTC === "string" && !Number.isNaN(Date.parse(timestampUTC));
	return [
		{
			...first,
			version: String(first.version ?? "1.0") === "1" ? "1.0" : first.version,
			timestampUTC: isoTime ? new Date(timestampUTC).toISOString() : timestampUTC,
			status: { operation: "", substatus: [], ...first.status },
		},
	];
}

/** Waits for success, warning or error. @throws `deadline-passed` saying what it was last */
export async function waitForStatusFile(path: string, limitMs: number): Promise<ReadStatus> {
	const deadline = performance.now() + limitMs;
	let last = "there was none";
	for (;;) {
		const found = await findStatusFile(path).catch((error: Error) => {
			last = error.message;
			return undefined;
		});
		if (found !== undefined && found.status !== "transitioning") return found;
		if (found !== undefined) last = `it was transitioning: ${found.message}`;
		if (performance.now() >= deadline)
			throw new StillpointError("deadline-passed", `no terminal status in ${path} within ${limitMs} ms; ${last}`);
		await sleep(25);
	}
}

export type ReadHeartbeat = { readonly ageMs: number; readonly ready: boolean; readonly message: string };

export async function findHeartbeat(path: string): Promise<ReadHeartbeat | undefined> {
	const stats = await stat(path).catch(() => undefined);
	if (stats === undefined) return undefined;
	const text = await readFile(path, "utf8").catch(() => "");
	const content = parseOrNothing(text)?.[0]?.heartbeat;
	return {
		ageMs: Date.now() - stats.mtimeMs,
		ready: String(content?.status).toLowerCase() === "ready",
		message: String(content?.formattedMessage?.message ?? ""),
	};
}

type HeartbeatFile = { heartbeat?: { status?: unknown; formattedMessage?: { message?: unknown } } }[] | undefined;

/** Touching an empty file is a heartbeat as well. */
function parseOrNothing(text: string): HeartbeatFile {
	try {
		return JSON.parse(text) as HeartbeatFile;
	} catch {
		return undefined;
	}
}

/** Takes the events, as hosts do: the folder is empty afterwards. */
export async function takeEvents(folder: string): Promise<Record<string, unknown>[]> {
	const names = (await readdir(folder)).filter((name) => /^\d+\.json$/.test(name)).sort();
	const events: Record<string, unknown>[] = [];
	for (const name of names) {
		const content: unknown = JSON.parse(await readFile(join(folder, name), "utf8"));
		events.push(...((Array.isArray(content) ? content : [content]) as Record<string, unknown>[]));
		await rm(join(folder, name));
	}
	return events;
}

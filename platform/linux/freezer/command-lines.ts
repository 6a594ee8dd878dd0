import { StillpointError } from "../../../contracts/errors.ts";
import type { FreezerCommand, FreezeTarget } from "../../../contracts/freezer-protocol.ts";

/** 500 targets with paths of 4 KiB each way fit; more is no command of ours. */
export const commandLimitBytes = 5 * 1024 * 1024;

/** Cuts a stream into lines. What follows the last newline when the stream ends is truncated, and never a line. */
export function createLineSplitter(limitBytes: number): { push(chunk: Buffer): string[] } {
	let rest: Buffer[] = [];
	let restBytes = 0;
	return {
		push(chunk) {
			const lines: string[] = [];
			let start = 0;
			for (let end = chunk.indexOf(10, start); end >= 0; end = chunk.indexOf(10, start)) {
				rest.push(chunk.subarray(start, end));
				requireFits(restBytes + end - start, limitBytes);
				lines.push(Buffer.concat(rest).toString("utf8"));
				rest = [];
				restBytes = 0;
				start = end + 1;
			}
			rest.push(chunk.subarray(start));
			restBytes += chunk.length - start;
			requireFits(restBytes, limitBytes);
			return lines;
		},
	};
}

/**
 * The same answer as `freezerCommandSchema` of the contract, by hand: the freezer starts in half the time without a
 * schema library. A test holds the two together.
 * @throws `message-invalid` naming the field.
 */
export function parseFreezerCommand(line: string): FreezerCommand {
	let value: unknown;
	try {
		value = JSON.parse(line);
	} catch (cause) {
		throw new StillpointError("message-invalid", "a line from the parent is not JSON", { cause });
	}
	const type = isRecord(value) ? value["type"] : undefined;
	switch (type) {
		case "targets": {
			const fields = requireFields(value, "", ["type", "jobId", "ledgerPath", "bootId", "targets"]);
			const targets = fields["targets"];
			if (!Array.isArray(targets) || targets.length < 1 || targets.length > 500) throw invalid("targets");
			return {
				type,
				jobId: text(fields, "jobId"),
				ledgerPath: text(fields, "ledgerPath"),
				bootId: text(fields, "bootId"),
				targets: targets.map((target, index) => parseTarget(target, `targets[${index}].`)),
			};
		}
		case "freeze": {
			const fields = requireFields(value, "", ["type", "holdLimitMs", "freezeLimitMs", "expedited"]);
			return {
				type,
				holdLimitMs: count(fields, "holdLimitMs", 1),
				freezeLimitMs: count(fields, "freezeLimitMs", 1),
				expedited: flag(fields, "expedited"),
			};
		}
		case "thaw": {
			const { superblocks } = requireFields(value, "", ["type", "superblocks"]);
			if (superblocks === undefined) return { type };
			if (!Array.isArray(superblocks) || superblocks.length < 1 || superblocks.length > 500)
				throw invalid("superblocks");
			return { type, superblocks: superblocks.map((one, index) => superblockAt(one, `superblocks[${index}]`)) };
		}
		default:
			throw invalid("type");
	}
}

function parseTarget(value: unknown, at: string): FreezeTarget {
	const keys = ["superblock", "mountPoint", "openPath", "fsType", "level", "dev", "ino"];
	const fields = requireFields(value, at, keys);
	return {
		superblock: superblockAt(fields["superblock"], `${at}superblock`),
		mountPoint: text(fields, "mountPoint", at),
		openPath: text(fields, "openPath", at),
		fsType: text(fields, "fsType", at),
		level: count(fields, "level", 0, at),
		dev: text(fields, "dev", at),
		ino: text(fields, "ino", at),
	};
}

function requireFields(value: unknown, at: string, keys: readonly string[]): Record<string, unknown> {
	if (!isRecord(value)) throw invalid(at);
	const unknown = Object.keys(value).find((key) => !keys.includes(key));
	if (unknown !== undefined) throw invalid(`${at}${unknown}`);
	return value;
}

function text(fields: Record<string, unknown>, key: string, at = ""): string {
	const value = fields[key];
	if (typeof value !== "string") throw invalid(`${at}${key}`);
	return value;
}

function count(fields: Record<string, unknown>, key: string, least: number, at = ""): number {
	const value = fields[key];
	if (typeof value !== "number" || !Number.isSafeInteger(value) || value < least) throw invalid(`${at}${key}`);
	return value;
}

function flag(fields: Record<string, unknown>, key: string): boolean {
	const value = fields[key];
	if (typeof value !== "boolean") throw invalid(key);
	return value;
}

function superblockAt(value: unknown, at: string): string {
	if (typeof value !== "string" || !/^\d+:\d+$/.test(value)) throw invalid(at);
	return value;
}

function isRecord(value: unknown): value is Record<string, unknown> {
	return typeof value === "object" && value !== null && !Array.isArray(value);
}

function invalid(field: string): StillpointError {
	return new StillpointError("message-invalid", `a line from the parent is wrong at ${field || "its top"}`, {
		details: { field },
	});
}

function requireFits(bytes: number, limitBytes: number): void {
	if (bytes > limitBytes)
		throw new StillpointError("message-too-large", `a line from the parent is longer than ${limitBytes} bytes`, {
			details: { limitBytes },
		});
}

/**
 * Snapshots taken by the host below, asked at Azure's wire address: `presnapshot` before the freeze, `dosnapshot` in
 * the window. It tells of its disks in the order of the LUNs that were asked for.
 */

import { z } from "zod";
import { checkShape } from "../../../contracts/check-shape.ts";
import type { StillpointError } from "../../../contracts/errors.ts";
import { type AzureCode, azureError } from "./azure-codes.ts";
import type { AzureTask } from "./azure-task.ts";
import { fetchLimited } from "./fetch-limited.ts";
import type { LunDisk } from "./lun-disks.ts";
import { type HttpAnswer, prepareRequest } from "./prepared-request.ts";
import type { SnapshotProvider, Taken } from "./snapshot-provider.ts";

const apiVersion = "2017-12-01";
const connectLimitMs = 5_000;
const maxAnswerBytes = 1024 * 1024;
const headers = { Backup: "true", "Content-Type": "application/json", "User-Agent": "VMSnapshot" };

const presnapshotSchema = z.object({ responseTime: z.string().nullish() });
const snapshotSchema = z.object({
	isSuccessful: z.union([z.boolean(), z.string()]),
	snapshotUri: z.string().max(4096).nullish(),
	errorMessage: z.string().nullish(),
	statusCode: z.union([z.string(), z.number()]).nullish(),
	ddSnapshotIdentifier: z.unknown().optional(),
});
const dosnapshotSchema = z.object({ snapshotInfo: z.array(snapshotSchema).max(257) });

/** @param address `HOST` or `HOST:PORT`. */
export function hostProvider(
	task: AzureTask,
	disks: readonly LunDisk[],
	given: {
		readonly address: string;
		readonly requestLimitMs: number;
		readonly findDisks: () => Promise<readonly LunDisk[]>;
	},
): SnapshotProvider {
	const at = (call: string) =>
		new URL(`http://${given.address}/metadata/recsvc/snapshot/${call}?api-version=${apiVersion}`);
	const dosnapshot = prepareRequest(at("dosnapshot"), { method: "POST", headers, body: bodyOf(task) });
	let otherClockMs: number | undefined;
	let presnapshotStatus = 555;
	const connect = (limitMs: number) =>
		dosnapshot.connect(limitMs).catch((error: Error) => {
			throw azureError("prepare-failed", 76, error.message, error);
		});

	async function presnapshot(signal: AbortSignal): Promise<void> {
		const { taskId, snapshotTaskToken, instantAccessMinutes: minutes } = task;
		const answer = await fetchLimited(at("presnapshot"), {
			method: "POST",
			headers,
			body: JSON.stringify({ taskId, snapshotTaskToken, instantAccessDurationMinutes: minutes ?? null }),
			limitMs: given.requestLimitMs,
			maxBytes: maxAnswerBytes,
			signal,
		}).catch((error: StillpointError) => {
			signal.throwIfAborted();
			throw azureError("prepare-failed", 76, `presnapshot: ${error.message}`, error);
		});
		presnapshotStatus = answer.status;
		const body = answer.body.toString("utf8");
		if (!isGood(answer.status)) throw refused("presnapshot", answer.status);
		const parsed = parseAnswer(presnapshotSchema, body);
		if (parsed === undefined) throw azureError("prepare-failed", 556, "presnapshot: the host's answer makes no sense");
		const heard = Date.parse(parsed.responseTime ?? "");
		otherClockMs = Number.isNaN(heard) ? undefined : heard;
	}

	return {
		name: "azure-host",
		get otherClockMs() {
			return otherClockMs;
		},
		async prepare(signal) {
			await presnapshot(signal);
			await connect(connectLimitMs);
			signal.throwIfAborted();
		},
		ready: connect,
		async take(limitMs) {
			const telemetry = { hostStatusCodePreSnapshot: String(presnapshotStatus) };
			try {
				const answer = await dosnapshot.send(limitMs);
				const told = tellTaken(answer, disks);
				return { ...told, telemetry: { ...telemetry, hostStatusCodeDoSnapshot: String(answer.status) } };
			} catch (error) {
				return { ...noneTaken(disks, (error as Error).message, 76), telemetry };
			}
		},
		/**
		 * The host's snapshots can't be read. But a disk has its LUN from the host, who was asked by it, so that it is
		 * proof like a serial number, as long as the LUN still leads to the disk that was planned.
		 */
		async describe({ disks: taken, failure }, planned) {
			if (failure !== undefined) return [];
			const now = await given.findDisks().catch(() => []);
			return taken.flatMap(({ disk, ok }) => {
				const plan = planned.find(({ name }) => name === disk.name);
				const isSame = now.some(({ lun, name }) => lun === disk.lun && name === disk.name);
				if (!ok || !isSame || plan === undefined) return [];
				const fileSystems = plan.fileSystemUuids.map((uuid) => ({ fsType: "", uuid, offsetBytes: 0 }));
				return [{ name: disk.name, identity: { fileSystems } }];
			});
		},
		[Symbol.dispose]: () => dosnapshot[Symbol.dispose](),
	};
}

function bodyOf(task: AzureTask): string {
	return JSON.stringify({
		taskId: task.taskId,
		diskIds: task.luns ?? [],
		settings: Object.entries(task.flags).map(([Key, Value]) => ({ Key, Value })),
		snapshotTaskToken: task.snapshotTaskToken,
		snapshotMetadata: task.metadata,
		instantAccessDurationMinutes: task.instantAccessMinutes ?? null,
	});
}

function tellTaken({ status, body }: HttpAnswer, disks: readonly LunDisk[]): Taken {
	if (!isGood(status)) return noneTaken(disks, `dosnapshot: the host answered ${status}`, codeOfStatus(status));
	const parsed = parseAnswer(dosnapshotSchema, body);
	if (parsed === undefined) return noneTaken(disks, "dosnapshot: the host's answer makes no sense", 556);
	const found = parsed.snapshotInfo;
	if (found.length !== disks.length) {
		return noneTaken(disks, `dosnapshot: the host told of ${found.length} disks of ${disks.length}`, 556);
	}
	const told = disks.map((disk, index) => {
		const one = found[index];
		const ok = String(one?.isSuccessful).toLowerCase() === "true";
		// An address from the host may carry a token as well.
		const snapshotUri = withoutToken(one?.snapshotUri);
		const error = ok ? undefined : (one?.errorMessage ?? `status ${one?.statusCode ?? "unknown"}`).slice(0, 1024);
		return {
			disk,
			ok,
			snapshotId: ok ? (snapshotUri ?? `lun-${disk.lun}`).slice(0, 512) : undefined,
			error,
			info: {
				isSuccessful: ok,
				snapshotUri,
				errorMessage: error,
				directDriveSnapshotIdentifier: withoutDirectDriveToken(one?.ddSnapshotIdentifier),
			},
		};
	});
	const failed = told.filter(({ ok }) => !ok).length;
	return failed === 0 ? { disks: told } : { disks: told, failure: failed < told.length ? 761 : 15 };
}

function noneTaken(disks: readonly LunDisk[], error: string, failure: AzureCode): Taken {
	const told = disks.map((disk) => ({ disk, ok: false, error, info: { isSuccessful: false, errorMessage: error } }));
	return { disks: told, failure };
}

/** A snapshot is named by its time; all else in the query may be a signature. */
function withoutToken(uri: string | null | undefined): string | undefined {
	const parsed = uri ? URL.parse(uri) : null;
	if (parsed === null) return undefined;
	const time = parsed.searchParams.get("snapshot");
	return `${parsed.origin}${parsed.pathname}${time === null ? "" : `?snapshot=${encodeURIComponent(time)}`}`;
}

function withoutDirectDriveToken(identifier: unknown): unknown {
	if (typeof identifier !== "object" || identifier === null) return undefined;
	return Object.fromEntries(Object.entries(identifier).filter(([name]) => name === "id" || name === "creationTime"));
}

function refused(call: string, status: number): StillpointError {
	return azureError("prepare-failed", codeOfStatus(status), `${call}: the host answered ${status}`);
}

function codeOfStatus(status: number): AzureCode {
	if (status === 429) return 173;
	return status >= 500 ? 556 : 15;
}

function isGood(status: number): boolean {
	return status === 200 || status === 201;
}

function parseAnswer<T>(schema: z.ZodType<T>, body: string): T | undefined {
	try {
		return checkShape(schema, JSON.parse(body)).data;
	} catch {
		return undefined;
	}
}

/**
 * Snapshots taken by this machine: `PUT <blob with SAS>&comp=snapshot` for each disk, all at once.
 * https://learn.microsoft.com/rest/api/storageservices/snapshot-blob
 */
import { StillpointError } from "../../../contracts/errors.ts";
import { type AzureCode, azureError } from "./azure-codes.ts";
import { type AzureTask, osDiskLun } from "./azure-task.ts";
import { readBlobIdentity } from "./blob-identity.ts";
import { fetchLimited } from "./fetch-limited.ts";
import type { LunDisk } from "./lun-disks.ts";
import { type HttpAnswer, type PreparedRequest, prepareRequest } from "./prepared-request.ts";
import type { DiskSnapshot, SnapshotProvider, Taken } from "./snapshot-provider.ts";

const connectLimitMs = 10_000;
const readLimitMs = 5_000;

type Blob = { readonly disk: LunDisk; readonly uri: URL; readonly plain: string; readonly request: PreparedRequest };
type Answer = { readonly blob: Blob; readonly answer: HttpAnswer } | { readonly blob: Blob; readonly lost: string };

/** @throws `prepare-failed` (11) when there is not one address for each disk */
export function guestProvider(
	task: Pick<AzureTask, "blobUris" | "metadata">,
	disks: readonly LunDisk[],
): SnapshotProvider {
	if (task.blobUris.length !== disks.length) {
		const what = `blobSASUri has ${task.blobUris.length} addresses for ${disks.length} disks`;
		throw azureError("prepare-failed", 11, what);
	}
	const headers = Object.fromEntries(task.metadata.map(({ Key, Value }) => [`x-ms-meta-${Key}`, Value]));
	// The service lists the OS disk first, then the data disks in the order of their LUNs in the task.
	const inOrder = [...disks].sort((a, b) => Number(b.lun === osDiskLun) - Number(a.lun === osDiskLun));
	const blobs = inOrder.map((disk, index): Blob => {
		const uri = new URL(task.blobUris[index] ?? "");
		const snapshot = new URL(uri);
		snapshot.search = `${uri.search}${uri.search === "" ? "?" : "&"}comp=snapshot`;
		const request = prepareRequest(snapshot, { method: "PUT", headers });
		return { disk, uri, plain: `${uri.origin}${uri.pathname}`, request };
	});

	async function connectAll(limitMs: number): Promise<void> {
		await Promise.all(
			blobs.map(({ request }) =>
				request.connect(limitMs).catch((error: Error) => {
					throw azureError("prepare-failed", 76, error.message, error);
				}),
			),
		);
	}

	return {
		name: "azure-blob",
		otherClockMs: undefined,
		async prepare(signal) {
			await connectAll(connectLimitMs);
			signal.throwIfAborted();
		},
		ready: connectAll,
		async take(limitMs, onTaken) {
			const answers = await Promise.all(
				blobs.map(async (blob): Promise<Answer> => {
					try {
						const answer = await blob.request.send(limitMs);
						const { snapshot } = tellOne({ blob, answer });
						if (snapshot.ok) onTaken(snapshot);
						return { blob, answer };
					} catch (error) {
						return { blob, lost: (error as Error).message };
					}
				}),
			);
			return tellTaken(answers);
		},
		async describe({ disks: taken }) {
			const described = blobs.map(async ({ disk, uri }) => {
				const id = taken.find((one) => one.disk.lun === disk.lun && one.ok)?.snapshotId;
				const time = id === undefined ? undefined : new URL(id).searchParams.get("snapshot");
				if (!time) return [];
				return [{ name: disk.name, identity: await readBlobIdentity((at, bytes) => readRange(uri, time, at, bytes)) }];
			});
			const settled = await Promise.allSettled(described);
			return settled.flatMap((one) => (one.status === "fulfilled" ? one.value : []));
		},
		[Symbol.dispose]() {
			for (const { request } of blobs) request[Symbol.dispose]();
		},
	};
}

function tellTaken(answers: readonly Answer[]): Taken {
	const told = answers.map(tellOne);
	const failures = told.flatMap(({ failure }) => failure ?? []);
	const disks = told.map(({ snapshot }) => snapshot);
	if (failures.length === 0) return { disks };
	return { disks, failure: gravest(failures, failures.length < told.length) };
}

/** What the service must heed comes first; then whether it is the network of some disks or of all. */
function gravest(failures: readonly AzureCode[], someWereTaken: boolean): AzureCode {
	for (const code of [173, 85] as const) if (failures.includes(code)) return code;
	if (someWereTaken) return 761;
	return failures.includes(76) ? 76 : 15;
}

function tellOne(one: Answer): { snapshot: DiskSnapshot; failure?: AzureCode } {
	const { disk, plain: blobUri } = one.blob;
	const failed = (failure: AzureCode, error: string) => ({
		snapshot: { disk, ok: false, error, info: { isSuccessful: false, errorMessage: error, blobUri } },
		failure,
	});
	if ("lost" in one) return failed(76, one.lost);
	const { status, headers } = one.answer;
	const time = headers["x-ms-snapshot"];
	if (status === 201 && typeof time === "string" && /^[\w:.+-]{1,64}$/.test(time)) {
		const snapshotUri = `${blobUri}?snapshot=${time}`;
		return {
			snapshot: { disk, ok: true, snapshotId: snapshotUri, info: { isSuccessful: true, snapshotUri, blobUri } },
		};
	}
	const word = String(headers["x-ms-error-code"] ?? "")
		.replaceAll(/[^A-Za-z]/g, "")
		.slice(0, 64);
	const said = `the blob service answered ${status}${word === "" ? "" : ` ${word}`}`;
	// The first word is misspelt by the service itself.
	const isRate = /^Snaph?s?h?otOperationRateExceeded$|^ServerBusy$/i.test(word) || status === 429 || status === 503;
	if (isRate) return failed(173, said);
	return failed(word === "SnapshotCountExceeded" ? 85 : 15, said);
}

async function readRange(blob: URL, snapshot: string, atBytes: number, lengthBytes: number): Promise<Buffer> {
	const uri = new URL(blob);
	uri.search = `${blob.search}${blob.search === "" ? "?" : "&"}snapshot=${encodeURIComponent(snapshot)}`;
	const { status, body } = await fetchLimited(uri, {
		method: "GET",
		headers: { Range: `bytes=${atBytes}-${atBytes + lengthBytes - 1}` },
		limitMs: readLimitMs,
		maxBytes: lengthBytes,
	});
	// 200 would be the blob from its beginning.
	if (status !== 206) throw new StillpointError("image-unreadable", `${blob.host} answered ${status}`);
	return body;
}

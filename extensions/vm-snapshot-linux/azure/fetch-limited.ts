import { StillpointError } from "../../../contracts/errors.ts";

export type FetchedAnswer = { readonly status: number; readonly body: Buffer };

/**
 * A whole request outside of the window: no redirect, a limit of time, and no more than `maxBytes` of the answer.
 * @throws `prepare-failed` naming host and reason, never the address: that may hold a secret
 */
export async function fetchLimited(
	url: URL,
	given: {
		readonly method: string;
		readonly headers?: Readonly<Record<string, string>>;
		readonly body?: string;
		readonly limitMs: number;
		readonly maxBytes: number;
		readonly signal?: AbortSignal;
	},
): Promise<FetchedAnswer> {
	const limit = AbortSignal.timeout(given.limitMs);
	const signal = given.signal === undefined ? limit : AbortSignal.any([given.signal, limit]);
	try {
		const { method, headers = {}, body } = given;
		const response = await fetch(url, {
			method,
			headers,
			redirect: "manual",
			signal,
			...(body === undefined ? {} : { body }),
		});
		return { status: response.status, body: await readBody(response, given.maxBytes) };
	} catch (error) {
		given.signal?.throwIfAborted();
		const why = limit.aborted ? `no answer within ${given.limitMs} ms` : reasonOf(error);
		throw new StillpointError("prepare-failed", `${url.host}: ${why}`);
	}
}

async function readBody(response: Response, maxBytes: number): Promise<Buffer> {
	const chunks: Uint8Array[] = [];
	let bytes = 0;
	for await (const chunk of response.body ?? []) {
		chunks.push(chunk);
		bytes += chunk.length;
		if (bytes >= maxBytes) break;
	}
	return Buffer.concat(chunks).subarray(0, maxBytes);
}

/** The message of `fetch` itself says only that it failed. */
function reasonOf(error: unknown): string {
	const cause = error instanceof Error ? error.cause : undefined;
	if (cause instanceof Error && "code" in cause && typeof cause.code === "string") return cause.code;
	return "the request failed";
}

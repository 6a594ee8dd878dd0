import { fetchLimited } from "./fetch-limited.ts";

const limitMs = 10_000;

/** The status to where the service looks for it. @throws `prepare-failed` naming host and reason, or what it answered */
export async function uploadStatus(uri: string, text: string): Promise<void> {
	const url = new URL(uri);
	const { status } = await fetchLimited(url, {
		method: "PUT",
		headers: { "x-ms-blob-type": "BlockBlob", "Content-Type": "application/json" },
		body: text,
		limitMs,
		maxBytes: 4_096,
	});
	if (status < 200 || status >= 300) throw new Error(`${url.host} answered ${status}`);
}

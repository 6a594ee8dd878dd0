import type { IncomingMessage } from "node:http";
import { StillpointError } from "../contracts/errors.ts";

/**
 * The body as JSON; an empty one is `{}`. `message-too-large` as soon as it is, `message-invalid` when it is no JSON or
 * is said to be something else.
 */
export async function readJsonBody(request: IncomingMessage, maxBodyBytes: number): Promise<unknown> {
	requireJsonType(request);
	const chunks: Buffer[] = [];
	let bytes = 0;
	for await (const chunk of request as AsyncIterable<Buffer>) {
		bytes += chunk.length;
		if (bytes > maxBodyBytes)
			throw new StillpointError("message-too-large", `the body is larger than ${maxBodyBytes} bytes`, {
				details: { maxBodyBytes },
			});
		chunks.push(chunk);
	}
	if (bytes === 0) return {};
	try {
		return JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(Buffer.concat(chunks)));
	} catch (error) {
		throw new StillpointError("message-invalid", "the body is not JSON", { cause: error });
	}
}

/** `message-invalid` for a body where none belongs. */
export function requireNoBody({ headers }: IncomingMessage): void {
	if ((headers["content-length"] ?? "0") === "0" && headers["transfer-encoding"] === undefined) return;
	throw new StillpointError("message-invalid", "this request takes no body");
}

function requireJsonType({ headers }: IncomingMessage): void {
	const type = headers["content-type"];
	const encoding = headers["content-encoding"];
	if (encoding !== undefined && encoding !== "identity")
		throw new StillpointError("message-invalid", "the body must not be compressed", {
			details: { field: "content-encoding" },
		});
	if (type === undefined || /^application\/json(?:\s*;\s*charset="?utf-8"?\s*)?$/i.test(type)) return;
	throw new StillpointError("message-invalid", `the body must be application/json, not ${type.slice(0, 128)}`, {
		details: { field: "content-type" },
	});
}

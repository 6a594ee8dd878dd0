import type { IncomingMessage } from "node:http";
import { StillpointError } from "../contracts/errors.ts";

/** The body as JSON; an empty one is `{}`. `message-too-large` as soon as it is, `message-invalid` when it is no JSON. */
export async function readJsonBody(request: IncomingMessage, maxBodyBytes: number): Promise<unknown> {
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

import { type Agent, request } from "node:https";
import { z } from "zod";
import { checkShape } from "../contracts/check-shape.ts";
import { StillpointError } from "../contracts/errors.ts";
import { errorShapeSchema } from "../contracts/hold-protocol.ts";

export type Call<T> = {
	readonly method: "GET" | "POST" | "PUT" | "DELETE";
	readonly path: string;
	readonly answer: z.ZodType<T>;
	readonly body?: unknown;
	readonly limitMs?: number;
	readonly signal?: AbortSignal | undefined;
};

export const callLimitMs = 30_000;

/** One request and its answer, checked. @throws the controller's own error, `controller-unreachable`, `message-invalid`, `deadline-passed` */
export async function callController<T>(url: string, agent: Agent, wanted: Call<T>): Promise<T> {
	const { status, text } = await exchange(url, agent, wanted);
	if (status >= 400) throw parseRefusal(text, `${wanted.method} ${wanted.path}`);
	return parseAnswer(wanted.answer, parseJson(text, `${wanted.method} ${wanted.path}`), wanted);
}

/** The error that an answer tells of. */
export function parseRefusal(text: string, what: string): StillpointError {
	const parsed = checkShape(z.object({ error: errorShapeSchema }), parseJson(text, what));
	if (!parsed.success) return new StillpointError("message-invalid", `the answer to ${what} does not match its schema`);
	const { code, message, details } = parsed.data.error;
	return new StillpointError(code, message, { details: { ...details } });
}

function exchange(url: string, agent: Agent, wanted: Call<unknown>): Promise<{ status: number; text: string }> {
	const { method, path, body, limitMs = callLimitMs, signal } = wanted;
	const limit = AbortSignal.timeout(limitMs);
	const stop = signal === undefined ? limit : AbortSignal.any([limit, signal]);
	const { promise, resolve, reject } = Promise.withResolvers<{ status: number; text: string }>();
	const fail = (error: Error) => {
		if (signal?.aborted) reject(signal.reason);
		else if (limit.aborted)
			reject(new StillpointError("deadline-passed", `${method} ${path} took more than ${limitMs} ms`));
		else reject(new StillpointError("controller-unreachable", `${url}: ${error.message}`, { cause: error }));
	};
	const headers = body === undefined ? {} : { "content-type": "application/json" };
	const outgoing = request(new URL(path, url), { method, agent, headers, signal: stop }, (incoming) => {
		const chunks: Buffer[] = [];
		incoming.on("data", (chunk: Buffer) => chunks.push(chunk));
		incoming.on("error", fail);
		incoming.on("end", () => resolve({ status: incoming.statusCode ?? 0, text: Buffer.concat(chunks).toString() }));
	});
	outgoing.on("error", fail);
	outgoing.end(body === undefined ? undefined : JSON.stringify(body));
	return promise;
}

function parseJson(text: string, what: string): unknown {
	try {
		return JSON.parse(text);
	} catch (error) {
		throw new StillpointError("message-invalid", `the answer to ${what} is not JSON`, { cause: error });
	}
}

function parseAnswer<T>(schema: z.ZodType<T>, value: unknown, { method, path }: Call<unknown>): T {
	const parsed = checkShape(schema, value);
	if (parsed.success) return parsed.data;
	throw new StillpointError("message-invalid", `the answer to ${method} ${path} does not match its schema`, {
		cause: parsed.error,
	});
}

import type { IncomingMessage } from "node:http";
import { checkShape } from "../../contracts/check-shape.ts";
import { StillpointError } from "../../contracts/errors.ts";
import { errorShapeSchema } from "../../contracts/hold-protocol.ts";

const maxAnswerBytes = 256 * 1024;

/** The body of a good answer. @throws the controller's error by its code; `controller-unreachable` */
export async function readAnswer(response: IncomingMessage, origin: string): Promise<unknown> {
	const { statusCode: status = 0 } = response;
	const text = await readText(response, origin);
	if (status >= 200 && status < 300) return parseOrUndefined(text);
	throw parseRefusal(text, { status, origin, date: response.headers.date });
}

async function readText(response: IncomingMessage, origin: string): Promise<string> {
	const chunks: Buffer[] = [];
	let received = 0;
	try {
		for await (const chunk of response as AsyncIterable<Buffer>) {
			received += chunk.length;
			if (received > maxAnswerBytes) throw new Error("the answer is too large");
			chunks.push(chunk);
		}
	} catch (cause) {
		response.destroy();
		throw new StillpointError("controller-unreachable", `${origin}: ${(cause as Error).message}`, { cause });
	}
	return Buffer.concat(chunks).toString("utf8");
}

/** An error of the controller keeps its code; it comes as the error itself or below `error`. */
function parseRefusal(
	text: string,
	{ status, origin, date }: { status: number; origin: string; date: string | undefined },
): StillpointError {
	const value = parseOrUndefined(text);
	const inner = typeof value === "object" && value !== null && "error" in value ? value.error : value;
	const error = checkShape(errorShapeSchema, inner);
	if (!error.success) return new StillpointError("controller-unreachable", `${origin} answered with status ${status}`);
	const timeMs = Date.parse(date ?? "");
	const controllerTime = Number.isNaN(timeMs) ? {} : { controllerTime: new Date(timeMs).toISOString() };
	return new StillpointError(error.data.code, error.data.message, { details: controllerTime });
}

function parseOrUndefined(text: string): unknown {
	try {
		return JSON.parse(text);
	} catch {
		return undefined;
	}
}

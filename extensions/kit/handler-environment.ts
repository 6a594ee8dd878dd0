import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { checkShape } from "../../contracts/check-shape.ts";
import { StillpointError } from "../../contracts/errors.ts";
import { handlerEnvironmentFileSchema } from "../../contracts/extension.ts";
import { readLimitedFile } from "./read-limited-file.ts";

export type HandlerEnvironment = {
	/** The handler's name, as its host knows it. */
	readonly name: string | undefined;
	readonly logFolder: string;
	readonly configFolder: string;
	readonly statusFolder: string;
	readonly heartbeatFile: string;
	/** Not every host takes events. */
	readonly eventsFolder: string | undefined;
};

const maxEnvironmentBytes = 256 * 1024;
const retryMs = 50;

/**
 * HandlerEnvironment.json of an installed package. Some hosts write it in place, so half a file is read again until
 * `patienceMs` are over.
 * @throws `extension-invalid` naming file and field
 */
export async function readHandlerEnvironment(packageFolder: string, patienceMs = 2_000): Promise<HandlerEnvironment> {
	const path = join(packageFolder, "HandlerEnvironment.json");
	const invalid = (what: string, cause?: unknown) =>
		new StillpointError("extension-invalid", `${path} ${what}`, { ...(cause === undefined ? {} : { cause }) });
	const deadline = performance.now() + patienceMs;
	for (;;) {
		const text = await readLimitedFile(path, maxEnvironmentBytes).catch((cause: Error) => {
			throw invalid(cause.message, cause);
		});
		try {
			return parseHandlerEnvironment(text, invalid);
		} catch (error) {
			if (!(error instanceof SyntaxError)) throw error;
			if (performance.now() >= deadline) throw invalid(`is no JSON: ${error.message}`, error);
		}
		await sleep(retryMs);
	}
}

/** @throws SyntaxError for what is no JSON, else what `invalid` makes */
function parseHandlerEnvironment(text: string, invalid: (what: string) => StillpointError): HandlerEnvironment {
	const parsed = checkShape(handlerEnvironmentFileSchema, JSON.parse(text));
	const issue = parsed.error?.issues[0];
	if (issue !== undefined) throw invalid(`: ${issue.path.join(".")}: ${issue.message}`);
	const [first] = parsed.data ?? [];
	if (first === undefined) throw invalid("is empty");
	const { eventsFolder, eventsFolder_preview: preview, ...folders } = first.handlerEnvironment;
	return { ...folders, name: first.name, eventsFolder: eventsFolder ?? preview };
}

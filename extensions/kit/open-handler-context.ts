import { basename } from "node:path";
import { StillpointError } from "../../contracts/errors.ts";
import type { HandlerContext } from "./handler.ts";
import { readHandlerEnvironment } from "./handler-environment.ts";
import { writeHandlerEvent } from "./handler-events.ts";
import { openHandlerLog } from "./handler-log.ts";
import type { HandlerProcess } from "./handler-process.ts";
import { maskSecrets } from "./mask-secrets.ts";

type Secrets = Readonly<Record<string, unknown>>;

export type OpenedHandler = {
	readonly context: HandlerContext;
	/** From now on its texts are masked in what is logged and said. */
	keepSecret(secrets: Secrets): void;
	mask(text: string): string;
};

/** @throws `extension-invalid` */
export async function openHandlerContext(entry: HandlerProcess, now: () => Date): Promise<OpenedHandler> {
	const packageFolder = entry.cwd();
	const environment = await readHandlerEnvironment(packageFolder);
	const name = environment.name ?? basename(packageFolder).replace(/-[\d.]+$/, "");
	const version = entry.env["AZURE_GUEST_AGENT_EXTENSION_VERSION"] ?? "";
	const log = openHandlerLog(environment.logFolder, "handler", now);
	const ending = new AbortController();
	for (const signal of ["SIGTERM", "SIGINT", "SIGHUP"] as const)
		entry.on(signal, () => ending.abort(new StillpointError("stopping", `ended by ${signal}`)));
	let secrets: Secrets = {};
	const mask = (text: string) => maskSecrets(text, secrets);
	const { eventsFolder } = environment;
	return {
		mask,
		keepSecret(found) {
			secrets = found;
		},
		context: {
			packageFolder,
			name,
			version,
			environment,
			variables: entry.env,
			signal: ending.signal,
			log: (line) => log.write(mask(line)),
			async event(event) {
				if (eventsFolder === undefined) return;
				const masked = { ...event, message: mask(event.message) };
				// Events are a courtesy: no work fails for one that could not be left.
				await writeHandlerEvent(eventsFolder, masked, { version, now: now(), pid: entry.pid }).catch(() => undefined);
			},
		},
	};
}

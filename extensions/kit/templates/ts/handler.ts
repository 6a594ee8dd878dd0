import { type Handler, runHandler } from "./stillpoint-kit.mjs";

const handler: Handler = {
	once: true,
	enable({ settings }) {
		const { greeting } = settings.publicSettings;
		if (typeof greeting !== "string") throw new Error("publicSettings.greeting: a text is needed");
		return `said: ${greeting}`;
	},
};

process.exitCode = await runHandler(handler, process);

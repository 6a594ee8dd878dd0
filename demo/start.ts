/**
 * `npm start`: one real snapshot of real file systems under load, from the order to the proof, and one deliberately bad
 * one. Options: --json (one document, last on stdout), --keep (leave all running to explore until Ctrl-C).
 */
import { parseArgs } from "node:util";
import { asStillpointError, StillpointError, worstError } from "../contracts/errors.ts";
import { runDemo } from "./run-demo.ts";

const stopping = new AbortController();
for (const name of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
	process.on(name, () =>
		stopping.abort(new StillpointError("terminated", `${name} came`, { details: { signal: name } })),
	);
}

const help = `npm start -- [--json] [--keep]

Takes one real snapshot of scratch file systems under load and proves its label. Needs Linux and root.

  --json  print one JSON document, the last line on stdout; progress goes to stderr
  --keep  leave everything running to explore, until Ctrl-C
`;

process.exitCode = await main();

async function main(): Promise<number> {
	let json = process.argv.includes("--json");
	try {
		const { values } = parseArgs({
			options: { json: { type: "boolean" }, keep: { type: "boolean" }, help: { type: "boolean", short: "h" } },
		});
		if (values.help === true) {
			process.stdout.write(help);
			return 0;
		}
		json = values.json === true;
		if (process.platform !== "linux") {
			throw new StillpointError(
				"platform-unsupported",
				`npm start freezes file systems of Linux; this is ${process.platform}`,
			);
		}
		if (process.getuid?.() !== 0) {
			throw new StillpointError("root-required", "npm start mounts and freezes scratch file systems: sudo npm start");
		}
		const result = await runDemo({
			keep: values.keep === true,
			signal: stopping.signal,
			say: (line) => void (json ? process.stderr : process.stdout).write(`${line}\n`),
			onResult: (document) => void (json && process.stdout.write(`${JSON.stringify(document)}\n`)),
		});
		return result.ok ? 0 : 3;
	} catch (thrown) {
		const usage = thrown instanceof TypeError && "code" in thrown;
		const error = usage ? new StillpointError("usage-invalid", thrown.message) : worstError(asIfStopped(thrown));
		process.stderr.write(`npm start: ${error.code}: ${error.message}\n  ${error.traits.remedy}\n`);
		if (error.code === "internal" && thrown instanceof Error) process.stderr.write(`${thrown.stack}\n`);
		if (json) process.stdout.write(`${JSON.stringify({ schemaVersion: 1, ok: false, error: error.toJSON() })}\n`);
		return error.details["signal"] === "SIGINT" ? 130 : error.traits.exit;
	}
}

/** Whatever broke because the demo was told to stop is no fault of its own. */
function asIfStopped(thrown: unknown): unknown {
	return stopping.signal.aborted ? stopping.signal.reason : asStillpointError(thrown);
}

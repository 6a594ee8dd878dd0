import type { Readable } from "node:stream";
import { asStillpointError, StillpointError } from "../../contracts/errors.ts";
import { type RecoverAnswer, recoverRequestSchema } from "../../contracts/extension.ts";
import { readHostLine } from "../kit/host-line.ts";
import { fitOutputs } from "./script-runner/fit-outputs.ts";
import { checkTrust } from "./script-runner/prepare-applications.ts";
import { recoverScripts } from "./script-runner/recover-scripts.ts";

type Streams = { stdin: Readable; stdout: { write(text: string): unknown }; stderr: { write(text: string): unknown } };

/** Answers the manifest's `recoverCommand`. Returns the exit status. */
export async function runRecoverCommand({ stdin, stdout, stderr }: Streams, limitMs: number): Promise<number> {
	try {
		const { text } = await readHostLine(stdin, limitMs);
		const { runFolder } = parse(text);
		const faults: string[] = [];
		const jobs = await recoverScripts(runFolder, checkTrust, ({ message }) => void faults.push(message));
		const answer: RecoverAnswer = {
			jobs: jobs.map(({ jobId, scripts }) => ({ jobId, scripts: fitOutputs(scripts) })),
			faults,
		};
		stdout.write(`${JSON.stringify(answer)}\n`);
		return 0;
	} catch (thrown) {
		const error = asStillpointError(thrown);
		stderr.write(`${error.message}\n`);
		return error.traits.exit;
	} finally {
		stdin.destroy();
	}
}

function parse(text: string): { runFolder: string } {
	try {
		return recoverRequestSchema.parse(JSON.parse(text));
	} catch (cause) {
		throw new StillpointError("message-invalid", "this is no request to recover", { cause });
	}
}

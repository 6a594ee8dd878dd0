import { userInfo } from "node:os";
import { dirname } from "node:path";
import type { ScriptInput, ScriptJob } from "../../../contracts/script-input.ts";
import { markVariable, phaseOf, phaseVariable, type RunnableStep, type ScriptEnd } from "./script-step.ts";

/** Of one variable the kernel takes 128 KiB; of all together much less than 2 MiB should be used up by us. */
const variableLimitBytes = 64 * 1024;

/** The line of JSON on stdin. */
export function scriptInput(job: ScriptJob, step: RunnableStep, end: ScriptEnd | undefined): string {
	const input: ScriptInput = { schemaVersion: 1, ...job, phase: phaseOf(step), ...end };
	return `${JSON.stringify(input)}\n`;
}

/** All of it: nothing of our own environment is handed on. */
export function scriptEnvironment(
	job: ScriptJob,
	step: RunnableStep,
	given: { end: ScriptEnd | undefined; realPath: string },
): Record<string, string> {
	const { user } = step;
	const name = user?.name ?? userInfo().username;
	// One that holds a line end must not pass for two.
	const fileSystems = job.fileSystems.map(({ mountPoint }) => mountPoint.replaceAll("\n", "\\012")).join("\n");
	return {
		PATH: `${dirname(process.execPath)}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin`,
		HOME: user?.home ?? userInfo().homedir,
		USER: name,
		LOGNAME: name,
		LC_ALL: "C.UTF-8",
		STILLPOINT_JOB_ID: job.jobId,
		[phaseVariable]: phaseOf(step),
		STILLPOINT_LEVEL: job.level,
		STILLPOINT_DISKS: job.disks.join(","),
		STILLPOINT_SCRIPT: given.realPath,
		[markVariable]: step.mark,
		...(Buffer.byteLength(fileSystems) > variableLimitBytes ? {} : { STILLPOINT_FILE_SYSTEMS: fileSystems }),
		...(given.end === undefined ? {} : { STILLPOINT_OUTCOME: given.end.outcome }),
	};
}

/** What others ask for while a job runs. */
import { execa } from "execa";
import { asStillpointError } from "../../../contracts/errors.ts";
import { programs } from "../../fixtures/programs.ts";
import { checkLabel } from "../fault-table/check-label.ts";
import { rest } from "../fault-table/rest.ts";
import { holdLimitMs, type Scene, type Struck } from "./scene.ts";

/** The same order once more, which is one job, and another, which waits its turn. */
export async function strikeSecondOrder({ lane, jobId }: Scene): Promise<Struck> {
	const order = { level: "application", acceptLevel: "crash", holdLimitMs, prepareLimitMs: 6_000 } as const;
	const second = `${jobId}-second`;
	const faults: string[] = [];
	const ask = async (id: string) => {
		await lane.client
			.orderSnapshot(lane.agentId, { ...order, jobId: id })
			.catch(
				(error: unknown) => void faults.push(`the order of ${id} was refused: ${asStillpointError(error).message}`),
			);
	};
	await Promise.all([ask(jobId), ask(second)]);
	return {
		async check() {
			const job = await rest(lane, second);
			if (job === undefined) return [...faults, "the second order was lost"];
			if (job.error !== undefined) faults.push(`the second order failed: ${job.error.code}: ${job.error.message}`);
			return [...faults, ...(await checkLabel(lane, job))];
		},
	};
}

export async function strikeThawCommand({ lane }: Scene): Promise<Struck> {
	const words = ["thaw", "--run-dir", lane.folders.flags.runDir, "--json"];
	const ran = execa(process.execPath, [programs.commandLine(), ...words], { reject: false, cwd: "/" });
	return {
		settle: async () => void (await ran),
		async check() {
			const { exitCode, stdout, stderr } = await ran;
			return exitCode === 0 ? [] : [`stillpoint thaw exits ${exitCode}: ${stdout} ${stderr}`];
		},
	};
}

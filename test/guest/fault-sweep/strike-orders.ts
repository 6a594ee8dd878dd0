/** What others ask for while a job runs. */
import { execa } from "execa";
import { asStillpointError } from "../../../contracts/errors.ts";
import { connectAsker } from "../../fixtures/job-client.ts";
import { programs } from "../../fixtures/programs.ts";
import { checkLeftovers } from "../fault-table/checks.ts";
import { holdLimitMs, type Scene, type Struck } from "./scene.ts";

const waitLimitMs = 60_000;

/** The same order once more, which is one job; another of the controller, which is refused; one of the machine, which waits. */
export async function strikeSecondOrder({ lane, jobId }: Scene): Promise<Struck> {
	const order = { level: "application", acceptLevel: "crash", holdLimitMs, prepareLimitMs: 6_000 } as const;
	const second = `${jobId}-second`;
	const local = `${jobId}-local`;
	const ask = (id: string) =>
		lane.client.orderSnapshot(lane.agentId, { ...order, jobId: id }).then(
			() => "accepted",
			(error: unknown) => asStillpointError(error).code,
		);
	const asker = await connectAsker(lane.agent);
	const disks = { include: lane.machine.images.map(({ disk }) => disk) };
	const waiting = asker.order(local, { disks, holdLimitMs, snapshot: "unknown" });
	const [again, another] = await Promise.all([ask(jobId), ask(second)]);
	const held = (async () => {
		await waiting;
		await asker.until("prepared", local, waitLimitMs);
		await asker.tell(local, "freeze");
		await asker.until("frozen", local);
		await asker.tell(local, "release");
		return (await asker.until("report", local)).report;
	})();
	held.catch(() => undefined);
	return {
		async settle() {
			await held.catch(() => undefined);
		},
		async check() {
			const report = await held.catch((error: unknown) => String(error));
			await asker[Symbol.asyncDispose]();
			const worth = typeof report === "object" ? report.held : report;
			return [
				...(again === "accepted" ? [] : [`the order that was repeated was answered ${again}`]),
				...(another === "job-running" ? [] : [`a second order was answered ${another}`]),
				...(worth === "file-system" ? [] : [`the hold that waited for its turn came to ${worth}`]),
				...(await checkLeftovers(lane, local)),
			];
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

import { StillpointError } from "../../contracts/errors.ts";
import type { Level } from "../../contracts/level.ts";
import type { CommandOf } from "../kit/run-snapshot-command.ts";
import { deadlineSignal, untilAborted } from "./abort-reasons.ts";
import { foreseeLevel } from "./consistency-verdict.ts";
import { FrozenWindow } from "./frozen-window.ts";
import { type Job, tellStuck, tellThawed, unlessDegraded } from "./job.ts";
import type { PreparedFileSystems } from "./prepare-file-systems.ts";
import { freezeTooLong } from "./stall-budget.ts";
import { makeTakenDisks, type TakenDisks } from "./taken-disks.ts";
import { countWritesNow, findWritten } from "./window-writes.ts";

const quietLimitMs = 2_000;

/** Freezes. Undefined: it could not, everything is thawed again, and the order accepts to go on without. */
export async function makeWindow(job: Job, { held }: PreparedFileSystems): Promise<FrozenWindow | undefined> {
	const { host, record, freezer, clock, undo } = job;
	const { order, holdLimitMs, stallBudgetMs = Number.POSITIVE_INFINITY } = host.request;
	const { jobId } = order;
	const halfMs = Math.max(50, Math.floor(holdLimitMs / 2));
	if (freezer === undefined) return undefined;
	record.applications?.lost.throwIfAborted();
	const frozenWindow = new FrozenWindow({
		jobId,
		freezer,
		folders: held.folders,
		calls: await job.calls,
		answers: record.answers,
		clock,
		onStuck: (mountPoints) => tellStuck(job, mountPoints),
	});
	{
		using quiet = deadlineSignal(quietLimitMs, () => {
			return new StillpointError("deadline-passed", `the host was not quiet within ${quietLimitMs} ms`);
		});
		undo.defer(() => tellThawed(job));
		await host.send({ type: "freezing", jobId, holdLimitMs, freezerPid: freezer.identity.pid });
		await host.commands.wait(["quiet"], AbortSignal.any([host.ending, quiet.signal]));
	}
	undo.defer(async () => {
		await frozenWindow.thaw();
		record.thawedAt ??= clock.utcNow();
	});
	return unlessDegraded(job, async () => {
		record.freezingAtMs = clock.nowMs();
		record.frozenAt = clock.utcNow();
		try {
			const freezing = frozenWindow.freeze({
				holdLimitMs,
				freezeLimitMs: Math.min(halfMs, stallBudgetMs),
				expedited: host.request.expedited ?? true,
			});
			await untilAborted(freezing, host.ending);
			return frozenWindow;
		} catch (error) {
			await frozenWindow.thaw();
			const isLate = error instanceof StillpointError && error.code === "freeze-late";
			throw isLate && stallBudgetMs < halfMs ? freezeTooLong(stallBudgetMs, error) : error;
		}
	});
}

/** Tells `frozen`, and waits until the asker has its snapshot, lets go, or the hold ends in another way. */
export async function waitWhileHeld(
	job: Job,
	frozenWindow: FrozenWindow | undefined,
): Promise<CommandOf<"done"> | CommandOf<"release">> {
	const { host, record, phases, clock } = job;
	const { order, holdLimitMs } = host.request;
	const { jobId } = order;
	// Where the freeze failed and was taken back nothing is held: the asker has all the time of the order.
	const heldSinceMs = frozenWindow === undefined ? undefined : record.freezingAtMs;
	const spentMs = heldSinceMs === undefined ? 0 : clock.nowMs() - heldSinceMs;
	const leftMs = Math.max(0, holdLimitMs - spentMs);
	using limit = deadlineSignal(
		leftMs,
		() => new StillpointError("hold-expired", `no snapshot within ${holdLimitMs} ms`),
	);
	const ends = [host.ending, frozenWindow?.ended ?? limit.signal];
	if (record.applications !== undefined) ends.push(record.applications.lost);
	const worth: Level = frozenWindow === undefined ? "crash" : foreseeLevel(record.evidence());
	const watched = frozenWindow === undefined ? new Map() : (record.plan?.watched ?? new Map());
	const writesBefore = countWritesNow(watched);
	const disks = makeTakenDisks(job, frozenWindow, (superblocks) => {
		const some = pick(watched, superblocks);
		record.writtenInWindow.push(...findWritten(pick(writesBefore, superblocks), countWritesNow(some)));
	});
	for (const { disk } of host.commands.drainTaken()) disks.note(disk);
	const fromMs = clock.nowMs();
	// Unless the asker says so, nobody knows when a snapshot ended.
	record.window = { fromMs, untilMs: Number.POSITIVE_INFINITY };
	phases.advance("frozen");
	const told = host.send({ type: "frozen", jobId, leftMs, worth });
	const waiting = waitForEnd(job, disks, AbortSignal.any(ends));
	const command = await Promise.race([waiting, told.then(() => waiting)]);
	record.window = { fromMs, untilMs: clock.nowMs() };
	disks.lookAtRest([...watched.keys()]);
	if (command.type === "done") record.outcomes = command.disks;
	return command;
}

async function waitForEnd(
	{ host }: Job,
	disks: TakenDisks,
	signal: AbortSignal,
): Promise<CommandOf<"done"> | CommandOf<"release">> {
	for (;;) {
		const command = await host.commands.wait(["taken", "done", "release"], signal);
		if (command.type !== "taken") return command;
		disks.note(command.disk);
	}
}

function pick<T>(of: ReadonlyMap<string, T>, keys: readonly string[]): Map<string, T> {
	return new Map([...of].filter(([key]) => keys.includes(key)));
}

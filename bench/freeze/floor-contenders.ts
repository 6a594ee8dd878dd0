import { mkdirSync } from "node:fs";
import { join } from "node:path";
import type { FreezeTarget } from "../../contracts/freezer-protocol.ts";
import type { FreezeCalls } from "../../platform/linux/freeze-calls.ts";
import { findProcessIdentity } from "../../platform/linux/process-identity.ts";
import { expedite, isExpedited } from "../../platform/linux/rcu-expedited.ts";
import { closeFolders, isHeld, openTargetFolder } from "../../platform/linux/target-folders.ts";
import { monotonicMs } from "../hold-once.ts";
import type { Contender, Turn } from "./contender.ts";

/**
 * What the kernel itself takes: everything is open and written out, grace periods are expedited, and one process that
 * waits for nobody calls FIFREEZE and FITHAW; one file system after another, or all of a level at once.
 */
export function floorContenders(calls: FreezeCalls, runFolder: string, targets: readonly FreezeTarget[]): Contender[] {
	const levels = [...Map.groupBy(targets, ({ level }) => level)].sort(([a], [b]) => a - b).map(([, level]) => level);
	return [
		{
			name: "floorInTurn",
			isExpedited: true,
			run: (mayFreeze) =>
				run(
					levels.flat().map((target) => [target]),
					mayFreeze,
				),
		},
		{ name: "floorAtOnce", isExpedited: true, run: (mayFreeze) => run(levels, mayFreeze) },
	];

	async function run(steps: readonly (readonly FreezeTarget[])[], mayFreeze: () => Promise<void>): Promise<Turn> {
		const askedAtMs = monotonicMs();
		const opened = await Promise.all(targets.map((target) => openTargetFolder(target)));
		const held = opened.filter(isHeld);
		try {
			if (held.length < targets.length) throw new Error(`cannot be opened: ${JSON.stringify(opened)}`);
			const fds = new Map(held.map(({ target, fd }) => [target, fd]));
			await mayFreeze();
			await Promise.all(held.map(({ fd }) => calls.sync(fd)));
			const window = await freezeAndThaw(steps.map((step) => step.map((target) => fds.get(target) as number)));
			return { ...window, job: { fromMs: askedAtMs, untilMs: monotonicMs() } };
		} finally {
			closeFolders(held);
		}
	}

	async function freezeAndThaw(steps: readonly (readonly number[])[]): Promise<Pick<Turn, "frozen" | "own">> {
		const ledgers = join(runFolder, "freezes");
		mkdirSync(ledgers, { recursive: true, mode: 0o700 });
		const self = findProcessIdentity(process.pid);
		const putBack = self === undefined ? undefined : expedite(ledgers, self);
		const expedited = isExpedited() ? 1 : 0;
		const fromMs = monotonicMs();
		const errors: (string | undefined)[] = [];
		try {
			for (const step of steps) errors.push(...(await Promise.all(step.map((fd) => calls.freeze(fd)))));
		} finally {
			putBack?.();
		}
		const frozenAtMs = monotonicMs();
		for (const step of steps.toReversed()) errors.push(...(await Promise.all(step.map((fd) => calls.thaw(fd)))));
		const untilMs = monotonicMs();
		const fault = errors.find((error) => error !== undefined);
		if (fault !== undefined) throw new Error(`FIFREEZE or FITHAW answered ${fault}`);
		return {
			frozen: { fromMs, untilMs },
			own: { freezeMs: frozenAtMs - fromMs, thawMs: untilMs - frozenAtMs, frozenMs: untilMs - fromMs, expedited },
		};
	}
}

import { Missed } from "../fault-table/aim.ts";
import type { Scene, Struck } from "./scene.ts";
import { strikeSlowDisk } from "./strike-disks.ts";
import { strikeClock, strikeLink } from "./strike-links.ts";
import { strikeSecondOrder, strikeThawCommand } from "./strike-orders.ts";
import { strikeAll, strikeOne } from "./strike-processes.ts";
import {
	strikeBalance,
	strikeForeignFreeze,
	strikeForeignThaw,
	strikeHugeWrite,
	strikeOverMount,
	strikeRemount,
	strikeUnmount,
} from "./strike-storage.ts";
import type { SweepFault } from "./sweep-cells.ts";

const byFault: Partial<Record<SweepFault, (scene: Scene) => Promise<Struck>>> = {
	"huge-write": strikeHugeWrite,
	balance: strikeBalance,
	freeze: strikeForeignFreeze,
	thaw: strikeForeignThaw,
	unmount: strikeUnmount,
	remount: strikeRemount,
	"over-mount": strikeOverMount,
	"second-order": strikeSecondOrder,
	"thaw-command": strikeThawCommand,
};

/** Does to the machine what the round is for. */
export function strike(scene: Scene): Promise<Struck> {
	const { victim, fault } = scene.round.cell;
	switch (victim) {
		case "all":
			return strikeAll(scene, fault);
		case "link":
			return strikeLink(scene, fault);
		case "clock":
			return strikeClock(scene, fault);
		case "disk":
		case "others": {
			const known = byFault[fault];
			if (known !== undefined) return known(scene);
			if (fault === "slow" || fault === "stuck") return strikeSlowDisk(scene, fault);
			throw new Missed(`nothing is known of ${fault}`);
		}
		default:
			return strikeOne(scene, victim, fault);
	}
}

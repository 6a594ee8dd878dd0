/** What happens to storage under a hold: others who freeze, thaw and mount, and disks that are busy or do not answer. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { statfsSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { execa } from "execa";
import { readMountTable } from "../../../platform/linux/mount-table.ts";
import { startForeignHand } from "../../fixtures/foreign-hand.ts";
import { isMounted } from "../../fixtures/loop-file-system.ts";
import { Missed } from "../fault-table/aim.ts";
import { type Scene, type Struck, stallMs } from "./scene.ts";

const foreignHoldMs = 3_000;
const foreignThawLimitMs = 1_500;
const busyMs = 2_000;
const mostBytes = 256 * 1024 * 1024;
const mountLimitMs = 15_000;

export async function strikeForeignFreeze(scene: Scene): Promise<Struck> {
	const hand = startForeignHand("freeze", await chooseMount(scene));
	const state = { froze: false };
	return {
		allowanceMs: () => (state.froze ? foreignHoldMs + 1_000 : 0),
		// What lies below a hold of ours, frozen by somebody else, keeps our FIFREEZE from ending.
		mayBeStuck: scene.round.variant.shape === "nested",
		async settle() {
			state.froze = (await Promise.race([hand.next(), sleep(stallMs, undefined)])) === "frozen";
			if (state.froze) await sleep(foreignHoldMs);
			hand.stop();
		},
		async check() {
			await hand[Symbol.asyncDispose]();
			const [froze, thawed] = hand.said;
			if (froze !== "frozen") return [];
			return thawed === "thawed" ? [] : [`a freeze of others was undone: their thaw answered ${thawed ?? "nothing"}`];
		},
	};
}

export async function strikeForeignThaw(scene: Scene): Promise<Struck> {
	const { point } = scene.round.cell;
	const hand = startForeignHand("thaw", await chooseMount(scene));
	return {
		async settle() {
			await Promise.race([hand.next(), sleep(foreignThawLimitMs)]);
			hand.stop();
		},
		async check() {
			await hand[Symbol.asyncDispose]();
			return [];
		},
		best: () => (hand.said[0] === "thawed" && point !== "thawing" ? "crash" : "application"),
	};
}

export async function strikeUnmount(scene: Scene): Promise<Struck> {
	const mountPoint = await chooseMount(scene);
	const { exitCode, stderr } = await execa("umount", ["--lazy", mountPoint], { reject: false, timeout: mountLimitMs });
	if (exitCode !== 0) throw new Error(`umount ${mountPoint}: ${stderr}`);
	return { spoils: true, note: mountPoint };
}

export async function strikeOverMount(scene: Scene): Promise<Struck> {
	const mountPoint = await chooseMount(scene);
	await execa("mount", ["-t", "tmpfs", "-o", "size=1M", "stillpoint-test-over", mountPoint], { timeout: mountLimitMs });
	return {
		note: mountPoint,
		async check() {
			const top = (await readMountTable()).findLast((mount) => mount.mountPoint === mountPoint);
			if (top?.source !== "stillpoint-test-over") return ["a mount of others is gone"];
			await execa("umount", [mountPoint]);
			return [];
		},
	};
}

/** Options change, read-only is tried, which the writers refuse, and all is as it was in the end. */
export async function strikeRemount(scene: Scene): Promise<Struck> {
	const mountPoint = await chooseMount(scene);
	const remount = (options: string) =>
		execa("mount", ["-o", `remount,${options}`, mountPoint], { reject: false, timeout: mountLimitMs });
	const trying = (async () => {
		for (const options of ["noatime", "ro", "rw,relatime"]) await remount(options);
	})();
	return {
		spoils: true,
		note: mountPoint,
		settle: () => trying,
		async check() {
			const { exitCode, stderr } = await remount("rw,relatime");
			return exitCode === 0 ? [] : [`${mountPoint} can't be remounted: ${stderr}`];
		},
	};
}

export async function strikeHugeWrite({ lane }: Scene): Promise<Struck> {
	const [roomiest] = lane.machine.writable
		.map((folder) => ({ folder, bytes: freeBytes(folder) }))
		.sort((a, b) => b.bytes - a.bytes);
	if (roomiest === undefined) throw new Missed("there is nowhere to write to");
	const bytes = Math.min(mostBytes, Math.floor(roomiest.bytes * 0.6));
	const hand = startForeignHand("write", roomiest.folder, bytes);
	return {
		// Its image stays as large as it became.
		spoils: true,
		note: `${Math.round(bytes / 1024 / 1024)} MiB a write`,
		async settle() {
			await sleep(busyMs);
			hand.stop();
		},
		async check() {
			await hand[Symbol.asyncDispose]();
			return hand.said[0] === "began" ? [] : ["the huge write did not begin"];
		},
	};
}

export async function strikeBalance(scene: Scene): Promise<Struck> {
	const btrfs = (await readMountTable()).find(
		({ fsType, mountPoint }) => fsType === "btrfs" && scene.lane.machine.writable.includes(mountPoint),
	);
	if (btrfs === undefined) throw new Missed("there is no btrfs");
	const balance = 'while btrfs balance start --full-balance "$1" > /dev/null; do :; done';
	const child = spawn("bash", ["-c", balance, "stillpoint-test-balance", btrfs.mountPoint], {
		stdio: "ignore",
		cwd: "/",
	});
	const exited = once(child, "exit");
	return {
		async settle() {
			await sleep(busyMs);
			child.kill("SIGKILL");
			await exited;
			await execa("btrfs", ["balance", "cancel", btrfs.mountPoint], { reject: false, timeout: mountLimitMs });
		},
	};
}

/** A mount of the machine that this namespace sees; never the one that carries the agent's own files. */
async function chooseMount({ lane, random }: Scene): Promise<string> {
	const { writable } = lane.machine;
	const seen = await Promise.all(
		writable.map(async (folder) => (!folder.startsWith("/proc/") && (await isMounted(folder)) ? [folder] : [])),
	);
	const all = seen.flat();
	const chosen = all[Math.floor(random() * all.length)];
	if (chosen === undefined) throw new Missed("there is no mount to choose");
	return chosen;
}

function freeBytes(folder: string): number {
	const { bavail, bsize } = statfsSync(folder);
	return bavail * bsize;
}

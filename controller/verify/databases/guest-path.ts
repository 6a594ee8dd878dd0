import { lstat, readlink } from "node:fs/promises";
import type { GuestPath } from "./database-kind.ts";

export type GuestView = {
	/** Where the file system is mounted here. */
	root: string;
	/** Where the guest had it mounted, if its report says so, and what else it had mounted. */
	mountPoint: string | undefined;
	otherMountPoints: readonly string[];
};

const mostLinks = 40;

/**
 * Follows a path as the guest would, but never out of this one file system: links are read, not followed by the
 * kernel, and an absolute one begins at the guest's root.
 * @param folder that a relative target begins in: a path here, below `root`.
 */
export async function resolveInGuest(target: string, folder: Buffer, view: GuestView): Promise<GuestPath> {
	const { root, mountPoint } = view;
	if (mountPoint === undefined)
		return { elsewhere: `${target}: the report does not say where the guest had it mounted` };
	const top = mountPoint.split("/").filter(Boolean);
	const begin = folder.toString("utf8").slice(root.length).split("/").filter(Boolean);
	let done = target.startsWith("/") ? [] : [...top, ...begin];
	const todo = target.split("/").filter(Boolean);
	for (let links = 0, next = todo.shift(); next !== undefined; next = todo.shift()) {
		if (next === ".") continue;
		if (next === "..") {
			done.pop();
			continue;
		}
		done.push(next);
		const guestPath = `/${done.join("/")}`;
		if (!isOnIt(guestPath, view)) {
			// Above its mount point nothing can be read, and nothing is a link: mount points are real paths.
			const onTheWay = top.length >= done.length && done.every((one, index) => one === top[index]);
			if (onTheWay && todo.length > 0) continue;
			return { elsewhere: `${target} leads to another file system` };
		}
		const path = [root, ...done.slice(top.length)].join("/");
		const status = await lstat(path).catch(() => undefined);
		if (!status) return { elsewhere: `${target} does not exist` };
		if (!status.isSymbolicLink()) continue;
		links += 1;
		if (links > mostLinks) return { elsewhere: `${target} goes round in circles` };
		const further = await readlink(path);
		done = further.startsWith("/") ? [] : done.slice(0, -1);
		todo.unshift(...further.split("/").filter(Boolean));
	}
	if (!isOnIt(`/${done.join("/")}`, view)) return { elsewhere: `${target} leads to another file system` };
	return { path: Buffer.from([root, ...done.slice(top.length)].join("/")) };
}

/** The longest mount point above a path is where it lies. */
function isOnIt(path: string, { mountPoint = "", otherMountPoints }: GuestView): boolean {
	const covers = (point: string) => point === "/" || path === point || path.startsWith(`${point}/`);
	return covers(mountPoint) && !otherMountPoints.some((other) => other.length > mountPoint.length && covers(other));
}

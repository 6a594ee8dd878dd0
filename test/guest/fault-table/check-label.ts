/** The bytes of the images that were taken are the last word on the label of a recovery point. */
import { join } from "node:path";
import type { ControllerJob } from "../../../contracts/controller-messages.ts";
import type { Finding } from "../../../contracts/verification.ts";
import { checkBtrfs } from "../../../controller/verify/btrfs-check.ts";
import { checkExt4 } from "../../../controller/verify/ext4-check.ts";
import type { FileSystemInImages, Member } from "../../../controller/verify/found-file-system.ts";
import { findFileSystems } from "../../../controller/verify/image-identity.ts";
import { openRawImage, regionOf } from "../../../controller/verify/raw-image.ts";
import { checkXfs } from "../../../controller/verify/xfs-check.ts";
import { isBetter } from "./cells.ts";
import type { Lane } from "./lane.ts";

const lookLimitMs = 60_000;

export async function checkLabel(lane: Lane, job: ControllerJob | undefined): Promise<string[]> {
	if (job?.recoveryPointId === undefined) return job?.state === "done" ? ["done without a recovery point"] : [];
	const point = await lane.client.readRecoveryPoint(job.recoveryPointId);
	const faults = isBetter(point.level, job.report?.achieved ?? "none") ? ["labelled above its report"] : [];
	if (!isBetter(point.level, "crash")) return faults;
	const folder = join(lane.controllerState, "recovery-points", point.id);
	await using undo = new AsyncDisposableStack();
	const found: { fsType: string; uuid: string; member: Member }[] = [];
	for (const disk of point.disks) {
		const imagePath = join(folder, disk.image);
		const image = undo.use(await openRawImage(imagePath, { follow: false }));
		const here = await findFileSystems(image);
		if (here.length === 0) faults.push(`the image of ${disk.name} holds no file system`);
		for (const { fsType, uuid, offsetBytes, sizeBytes } of here) {
			const reader = regionOf(image, offsetBytes, sizeBytes);
			found.push({ fsType, uuid, member: { disk: disk.name, imagePath, offsetBytes, sizeBytes, reader } });
		}
	}
	for (const members of Map.groupBy(found, ({ uuid }) => uuid).values()) {
		const [{ fsType, uuid }] = members as [(typeof found)[number]];
		const all = members.map(({ member }) => member) as [Member, ...Member[]];
		for (const { check, status, detail } of await look({ fsType, uuid, members: all }))
			if (status !== "pass") faults.push(`${fsType} ${check}: ${detail}`);
	}
	return faults;
}

function look(fileSystem: FileSystemInImages): Promise<Finding[]> | Finding[] {
	const { fsType } = fileSystem;
	if (fsType.startsWith("ext")) return checkExt4(fileSystem);
	if (fsType === "xfs") return checkXfs(fileSystem, AbortSignal.timeout(lookLimitMs));
	// Swap and the like hold nothing that a freeze could make still.
	return fsType === "btrfs" ? checkBtrfs(fileSystem, AbortSignal.timeout(lookLimitMs)) : [];
}

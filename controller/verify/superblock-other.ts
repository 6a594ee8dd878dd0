import type { RawReader } from "./raw-image.ts";
import { uuidText } from "./uuid-text.ts";

export type OtherSignature = {
	fsType: "vfat" | "LVM2_member" | "crypto_LUKS" | "linux_raid_member" | "swap";
	uuid: string;
};

/** Containers whose file systems can't be seen from outside. */
export const opaqueTypes: readonly string[] = ["LVM2_member", "crypto_LUKS", "linux_raid_member"];

/** What is neither ext4, XFS nor btrfs but must be known for what it is. @param head the first 8 KiB. */
export function parseOtherSignature(head: Buffer): OtherSignature | undefined {
	if (head.length < 8192) return undefined;
	if (head.toString("latin1", 0, 6) === "LUKS\xba\xbe") {
		return { fsType: "crypto_LUKS", uuid: textUntilNul(head.subarray(168, 208)) };
	}
	for (let sector = 0; sector < 4; sector += 1) {
		const label = head.subarray(sector * 512, sector * 512 + 512);
		if (label.toString("latin1", 0, 8) !== "LABELONE" || label.toString("latin1", 24, 32) !== "LVM2 001") continue;
		return { fsType: "LVM2_member", uuid: label.toString("latin1", 32, 64) };
	}
	for (const offset of [0, 4096]) {
		if (head.readUInt32LE(offset) !== 0xa92b4efc || head.readUInt32LE(offset + 4) !== 1) continue;
		return { fsType: "linux_raid_member", uuid: uuidText(head.subarray(offset + 16, offset + 32)) };
	}
	if (head.toString("latin1", 4086, 4096) === "SWAPSPACE2") {
		return { fsType: "swap", uuid: uuidText(head.subarray(1036, 1052)) };
	}
	return parseFat(head);
}

/** md with its superblock at the end (1.0) is not looked for: what lies before it is then read as it is. */
export async function readOtherSignature(reader: RawReader): Promise<OtherSignature | undefined> {
	return parseOtherSignature(await reader.read(0, 8192));
}

function parseFat(head: Buffer): OtherSignature | undefined {
	if (head.readUInt16LE(510) !== 0xaa55) return undefined;
	const is32 = head.toString("latin1", 82, 87) === "FAT32";
	if (!is32 && !/^FAT1[26]/.test(head.toString("latin1", 54, 59))) return undefined;
	const serial = head.readUInt32LE(is32 ? 67 : 39);
	const hex = serial.toString(16).toUpperCase().padStart(8, "0");
	return { fsType: "vfat", uuid: `${hex.slice(0, 4)}-${hex.slice(4)}` };
}

function textUntilNul(bytes: Buffer): string {
	const end = bytes.indexOf(0);
	return bytes.toString("latin1", 0, end < 0 ? bytes.length : end);
}

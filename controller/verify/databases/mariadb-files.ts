/** @param text of mariadb_upgrade_info, or what `mariadbd --version` says. `10.11.14`. */
export function parseVersion(text: Buffer | undefined): string | undefined {
	return /(\d+\.\d+\.\d+)-MariaDB/i.exec(text?.toString("latin1") ?? "")?.[1];
}

/** By series: a server reads what any server of its own or an earlier series wrote. */
export function isNewer(written: string, installed: string): boolean {
	const [a = [], b = []] = [written, installed].map((one) => one.split(".").map(Number));
	return (a[0] ?? 0) > (b[0] ?? 0) || (a[0] === b[0] && (a[1] ?? 0) > (b[1] ?? 0));
}

const pageTypeOfSpaceHeader = 8;
const flagsAt = 54;

/**
 * The page size from the first page of a tablespace (MariaDB Server, storage/innobase/include/fsp0types.h: with
 * full_crc32, bit 4 of the flags, it is in bits 0 to 3; else in bits 6 to 9, where 0 is 16 KiB).
 */
export function parsePageSize(head: Buffer): number | undefined {
	if (head.length < 64 || head.readUInt16BE(24) !== pageTypeOfSpaceHeader) return undefined;
	const flags = head.readUInt32BE(flagsAt);
	const shift = (flags & 0x10) !== 0 ? flags & 0xf : (flags >>> 6) & 0xf;
	if (shift === 0) return 16_384;
	return shift >= 3 && shift <= 7 ? 512 << shift : undefined;
}

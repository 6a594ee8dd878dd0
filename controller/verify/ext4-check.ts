import type { Finding } from "../../contracts/verification.ts";
import type { JournalBlock, JournalSuperblock } from "./ext4-journal.ts";
import { findJournalExtents, notBefore, parseJournalSuperblock, readJournalBlocks } from "./ext4-journal.ts";
import type { FileSystemInImages, Verdict } from "./found-file-system.ts";
import { findingOf } from "./found-file-system.ts";
import type { RawReader } from "./raw-image.ts";
import type { Ext4Superblock } from "./superblock-ext4.ts";
import { ext4SuperblockAt, parseExt4Superblock } from "./superblock-ext4.ts";

export type Ext4State = {
	superblock: Ext4Superblock;
	journal: JournalSuperblock | undefined;
	/** Blocks of transactions that the journal's superblock says were not yet written. */
	newer: JournalBlock[];
};

/** undefined: no ext2, ext3 or ext4 here. */
export async function readExt4State(reader: RawReader): Promise<Ext4State | undefined> {
	const superblock = parseExt4Superblock(await reader.read(ext4SuperblockAt.offsetBytes, ext4SuperblockAt.lengthBytes));
	if (!superblock) return undefined;
	const extents = superblock.hasJournal ? await findJournalExtents(reader, superblock) : undefined;
	const first = extents?.[0];
	if (!extents || !first) return { superblock, journal: undefined, newer: [] };
	const journal = parseJournalSuperblock(await reader.read(first.physical * superblock.blockSizeBytes, 1024));
	if (!journal || journal.blockSizeBytes !== superblock.blockSizeBytes)
		return { superblock, journal: undefined, newer: [] };
	const newer: JournalBlock[] = [];
	for await (const block of readJournalBlocks(reader, journal, extents)) {
		if (notBefore(block.sequence, journal.sequence)) newer.push(block);
	}
	return { superblock, journal, newer };
}

/**
 * A freeze flushes the journal (start block 0), clears the recovery flag and writes the superblock; the next
 * transaction gets the number that the journal's superblock then carries. A thaw sets the flag again at once. So a
 * block of a transaction of that number or later was written after the thaw, while the copy was still being made.
 */
export async function checkExt4(fileSystem: FileSystemInImages): Promise<Finding[]> {
	const state = await readExt4State(fileSystem.members[0].reader);
	if (!state) {
		return [findingOf(fileSystem, "still", { status: "fail", detail: "the superblock is gone or damaged" })];
	}
	return [findingOf(fileSystem, "still", judgeStill(state)), findingOf(fileSystem, "torn", judgeTorn(state))];
}

export function judgeStill({ superblock, journal }: Ext4State): Verdict {
	const evidence = "dumpe2fs -h: Filesystem features, Journal start";
	if (superblock.checksumOk === false) return { status: "fail", detail: "the superblock fails its checksum", evidence };
	if (superblock.needsRecovery) {
		return { status: "fail", detail: "needs recovery: it was mounted and not frozen", evidence };
	}
	if (!superblock.hasJournal) {
		return superblock.cleanState
			? { status: "pass", detail: "no journal, and marked clean", evidence }
			: { status: "unknown", detail: "no journal: a freeze leaves no mark on such a file system", evidence };
	}
	if (superblock.journalInode === 0) {
		return { status: "pass", detail: "no recovery flag; the journal lies on another device", evidence };
	}
	if (!journal) return { status: "fail", detail: "the journal's superblock is gone or damaged", evidence };
	if (journal.startBlock !== 0) {
		return { status: "fail", detail: `the journal has transactions from ${journal.sequence} on to recover`, evidence };
	}
	return { status: "pass", detail: "no recovery flag, and the journal is empty", evidence };
}

export function judgeTorn({ superblock, journal, newer }: Ext4State): Verdict {
	const evidence = "debugfs -R 'logdump -S'";
	if (!superblock.hasJournal) return { status: "unknown", detail: "no journal that could tell", evidence };
	if (!journal) return { status: "unknown", detail: "the journal could not be read", evidence };
	if (journal.startBlock !== 0) {
		return { status: "unknown", detail: "the journal is in use, so it can't tell what came later", evidence };
	}
	const last = newer.at(-1);
	if (!last) return { status: "pass", detail: `no transaction from ${journal.sequence} on in the journal`, evidence };
	const text = `transactions ${newer[0]?.sequence} to ${last.sequence} were written after the freeze`;
	return { status: "fail", detail: `${text}: it was thawed before the copy was done`, evidence };
}

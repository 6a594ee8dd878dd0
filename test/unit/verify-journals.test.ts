import { describe, expect, test } from "vitest";
import { rawCrc32c } from "../../controller/verify/crc32c.ts";
import { judgeStill, judgeTorn, readExt4State } from "../../controller/verify/ext4-check.ts";
import { notBefore, parseJournalBlock, parseJournalSuperblock } from "../../controller/verify/ext4-journal.ts";
import { judgeStill as judgeXfsStill } from "../../controller/verify/xfs-check.ts";
import type { XfsLogRecord } from "../../controller/verify/xfs-log.ts";
import { classifyPayload, parseLogRecord, readLogRecords, unpackPayload } from "../../controller/verify/xfs-log.ts";
import { hostileVariants, readerOf } from "../fixtures/hostile-bytes.ts";
import { ext4Superblock, uuid } from "../fixtures/superblock-bytes.ts";

const journalBlock = 20;

describe("the ext4 journal", () => {
	test("empty and with older transactions only: still, and not torn", async () => {
		const state = await stateOf(ext4Disk({ transactions: [8, 9] }));
		expect([judgeStill(state).status, judgeTorn(state).status]).toEqual(["pass", "pass"]);
	});

	test("a transaction of the next number was written after the freeze", async () => {
		const state = await stateOf(ext4Disk({ transactions: [9, 10] }));
		expect([judgeStill(state).status, judgeTorn(state).status]).toEqual(["pass", "fail"]);
		expect(judgeTorn(state).detail).toContain("transactions 10 to 10");
	});

	test("numbers wrap", async () => {
		expect([notBefore(0, 0xffffffff), notBefore(0xffffffff, 0), notBefore(5, 5)]).toEqual([true, false, true]);
		const state = await stateOf(ext4Disk({ sequence: 0xffffffff, transactions: [0] }));
		expect(judgeTorn(state).status).toBe("fail");
	});

	test("a block of another journal, whose checksum is not of this one, does not count", async () => {
		const good = await stateOf(ext4Disk({ transactions: [10], checksums: true }));
		expect(judgeTorn(good).status).toBe("fail");
		const foreign = await stateOf(ext4Disk({ transactions: [10], checksums: true, seed: 77 }));
		expect(judgeTorn(foreign).status).toBe("pass");
	});

	test("transactions to recover, the recovery flag, or a damaged journal are not still", async () => {
		expect(judgeStill(await stateOf(ext4Disk({ startBlock: 1 }))).status).toBe("fail");
		expect(judgeTorn(await stateOf(ext4Disk({ startBlock: 1 }))).status).toBe("unknown");
		const flagged = ext4Disk({});
		ext4Superblock({ incompat: 0x46 }).copy(flagged, 1024);
		expect(judgeStill(await stateOf(flagged)).status).toBe("fail");
		const damaged = ext4Disk({});
		damaged.fill(0, journalBlock * 4096, journalBlock * 4096 + 8);
		expect([judgeStill(await stateOf(damaged)).status, judgeTorn(await stateOf(damaged)).status]).toEqual([
			"fail",
			"unknown",
		]);
	});

	test("without a journal a freeze leaves no mark: unknown, unless it is marked clean", async () => {
		const disk = ext4Disk({});
		ext4Superblock({ compat: 0 }).copy(disk, 1024);
		expect(judgeStill(await stateOf(disk)).status).toBe("pass");
		ext4Superblock({ compat: 0, state: 0 }).copy(disk, 1024);
		expect(judgeStill(await stateOf(disk)).status).toBe("unknown");
	});

	test("cut and hostile bytes end, without an exception", async () => {
		const valid = ext4Disk({ transactions: [8, 9] });
		for (let length = 0; length < valid.length; length += 4099)
			await readExt4State(readerOf(valid.subarray(0, length)));
		for (const bytes of hostileVariants(valid, 200)) await readExt4State(readerOf(bytes));
		const pointsAtItself = ext4Disk({ extentDepth: 5 });
		await readExt4State(readerOf(pointsAtItself));
		expect(parseJournalSuperblock(Buffer.alloc(10))).toBeUndefined();
		const journal = { blockSizeBytes: 4096, blockCount: 8, firstBlock: 1, sequence: 1, startBlock: 0 };
		expect(parseJournalBlock(Buffer.alloc(100), 1, { ...journal, checksums: true, checksumSeed: 0 })).toBeUndefined();
	});

	async function stateOf(disk: Buffer) {
		const state = await readExt4State(readerOf(disk));
		if (!state) throw new Error("no ext4");
		return state;
	}
});

describe("the XFS log", () => {
	const log = { uuid, blocks: 64 };

	test("the dummy of a freeze is told from changes and from an unmount", () => {
		expect(classify(transaction(superblockItem()))).toBe("superblock-only");
		expect(classify(transaction(inodeItem()))).toBe("other");
		expect(classify(transaction(superblockItem(8n)))).toBe("other");
		expect(classify([operation(Buffer.from("Un00mount"), 0x20)])).toBe("unmount");
		expect(classify([operation(superblockItem()[0] as Buffer, 0x08)])).toBe("other");
	});

	test("only the dummy to recover is still; one more change is not", () => {
		const record = { lsn: 1n } as XfsLogRecord;
		const state = (contents: ("superblock-only" | "other" | "unmount")[]) => ({
			last: record,
			toRecover: contents.map((content) => ({ record, content })),
		});
		expect(judgeXfsStill(state(["superblock-only", "superblock-only"])).status).toBe("pass");
		expect(judgeXfsStill(state(["superblock-only", "other"])).status).toBe("fail");
		expect(judgeXfsStill(state(["other", "unmount"])).status).toBe("pass");
		expect(judgeXfsStill(state([])).status).toBe("fail");
		expect(judgeXfsStill(undefined).status).toBe("unknown");
		expect(judgeXfsStill({ last: undefined, toRecover: [] }).status).toBe("unknown");
	});

	test("records of another log, of another place or too large are left out", async () => {
		const bytes = Buffer.alloc(64 * 512);
		recordHeader(3).copy(bytes, 3 * 512);
		recordHeader(5).copy(bytes, 6 * 512);
		const foreign = recordHeader(8);
		foreign.fill(9, 304, 320);
		foreign.copy(bytes, 8 * 512);
		recordHeader(9, 1 << 30).copy(bytes, 9 * 512);
		expect((await readLogRecords(readerOf(bytes), uuid)).map(({ block }) => block)).toEqual([3]);
	});

	test("the first bytes of each block come from the header", () => {
		const header = recordHeader(3, 1024);
		header.writeUInt32BE(0xdeadbeef, 44);
		header.writeUInt32BE(0xfeedf00d, 48);
		const record = parseLogRecord(header, 3, log) as XfsLogRecord;
		const payload = unpackPayload(Buffer.concat([header, Buffer.alloc(1024, 1)]), record);
		expect([payload.readUInt32BE(0), payload.readUInt32BE(512), payload.length]).toEqual([
			0xdeadbeef, 0xfeedf00d, 1024,
		]);
	});

	test("cut and hostile bytes end, without an exception", () => {
		const header = recordHeader(3, 1024);
		for (let length = 0; length < 512; length += 7)
			expect(parseLogRecord(header.subarray(0, length), 3, log)).toBeUndefined();
		for (const bytes of hostileVariants(header, 300)) {
			const record = parseLogRecord(bytes, 3, log);
			if (record) classifyPayload(unpackPayload(Buffer.concat([bytes, Buffer.alloc(700, 7)]), record), record);
		}
		const record = parseLogRecord(header, 3, log) as XfsLogRecord;
		const payload = Buffer.concat(transaction(superblockItem()));
		for (const bytes of hostileVariants(payload, 300))
			classifyPayload(bytes, { ...record, operationCount: 0xffffffff });
	});

	function classify(operations: Buffer[]) {
		const record = parseLogRecord(recordHeader(3), 3, log) as XfsLogRecord;
		return classifyPayload(Buffer.concat(operations), { ...record, operationCount: operations.length });
	}

	function transaction(item: Buffer[]): Buffer[] {
		const header = Buffer.alloc(16);
		header.write("NART", 0, "latin1");
		return [
			operation(Buffer.alloc(0), 1),
			operation(header),
			...item.map((one) => operation(one)),
			operation(Buffer.alloc(0), 2),
		];
	}

	function operation(body: Buffer, flags = 0): Buffer {
		const header = Buffer.alloc(12);
		header.writeUInt32BE(body.length, 4);
		header.writeUInt8(0x69, 8);
		header.writeUInt8(flags, 9);
		return Buffer.concat([header, body]);
	}

	function superblockItem(address = 0n): Buffer[] {
		const format = Buffer.alloc(24);
		format.writeUInt16LE(0x123c, 0);
		format.writeUInt16LE(2, 2);
		format.writeBigUInt64LE(address, 8);
		return [format, Buffer.alloc(384)];
	}

	function inodeItem(): Buffer[] {
		const format = Buffer.alloc(56);
		format.writeUInt16LE(0x123b, 0);
		return [format, Buffer.alloc(176)];
	}

	function recordHeader(block: number, payloadBytes = 512): Buffer {
		const bytes = Buffer.alloc(512);
		bytes.writeUInt32BE(0xfeedbabe, 0);
		bytes.writeUInt32BE(1, 4);
		bytes.writeUInt32BE(2, 8);
		bytes.writeUInt32BE(payloadBytes, 12);
		bytes.writeBigUInt64BE((1n << 32n) + BigInt(block), 16);
		bytes.writeUInt32BE(1, 300);
		Buffer.from(uuid.replaceAll("-", ""), "hex").copy(bytes, 304);
		bytes.writeUInt32BE(32768, 320);
		return bytes;
	}
});

type JournalOptions = {
	sequence?: number;
	startBlock?: number;
	transactions?: number[];
	checksums?: boolean;
	seed?: number;
	extentDepth?: number;
};

/** Blocks of 4096 bytes: 1 group descriptor, 2 inode table, 20 to 27 the journal of 8 blocks. */
function ext4Disk(options: JournalOptions): Buffer {
	const disk = Buffer.alloc(40 * 4096);
	ext4Superblock().copy(disk, 1024);
	disk.writeUInt32LE(2, 4096 + 8);
	const inode = disk.subarray(2 * 4096 + 7 * 256);
	inode.writeUInt32LE(0x80000, 0x20);
	inode.writeUInt16LE(0xf30a, 0x28);
	inode.writeUInt16LE(1, 0x2a);
	inode.writeUInt16LE(options.extentDepth ?? 0, 0x2e);
	inode.writeUInt16LE(8, 0x28 + 16);
	inode.writeUInt32LE(journalBlock, 0x28 + 20);
	if (options.extentDepth) {
		inode.writeUInt32LE(30, 0x28 + 16);
		const node = disk.subarray(30 * 4096, 31 * 4096);
		node.writeUInt16LE(0xf30a, 0);
		node.writeUInt16LE(340, 2);
		node.writeUInt16LE(options.extentDepth, 6);
		for (let at = 12; at + 12 <= 4096; at += 12) node.writeUInt32LE(30, at + 4);
		return disk;
	}
	const journal = disk.subarray(journalBlock * 4096);
	for (const [index, value] of [
		0xc03b3998,
		4,
		0,
		4096,
		8,
		1,
		options.sequence ?? 10,
		options.startBlock ?? 0,
	].entries()) {
		journal.writeUInt32BE(value, index * 4);
	}
	if (options.checksums) journal.writeUInt32BE(0x10, 0x28);
	const seed = options.seed ?? rawCrc32c(0xffffffff, Buffer.alloc(16));
	for (const [index, transaction] of (options.transactions ?? []).entries()) {
		const block = journal.subarray((index + 1) * 4096, (index + 2) * 4096);
		block.writeUInt32BE(0xc03b3998, 0);
		block.writeUInt32BE(2, 4);
		block.writeUInt32BE(transaction, 8);
		block.writeUInt32BE(rawCrc32c(seed, block), 16);
	}
	return disk;
}

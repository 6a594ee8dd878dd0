import type { FileHandle } from "node:fs/promises";

export type Extent = { readonly offset: number; readonly length: number };

/** Where a file has data, in ascending order; the rest is holes. */
export type FindData = (file: FileHandle, sizeBytes: number) => Iterable<Extent>;

/** linux/fs.h */
const SEEK_DATA = 3;
const SEEK_HOLE = 4;

/**
 * By lseek's SEEK_DATA and SEEK_HOLE, which see data that is not written out yet. A file or device that does not know
 * them is all data. The position of the file is moved: read it with explicit positions only.
 */
export async function loadFindData(): Promise<FindData> {
	const { default: koffi } = await import("koffi");
	const lseek = koffi.load(null).func("int64_t lseek(int fd, int64_t offset, int whence)");
	const { ENXIO } = koffi.os.errno as { ENXIO: number };
	return function* findData(file, sizeBytes) {
		let offset = 0;
		while (offset < sizeBytes) {
			const data = Number(lseek(file.fd, offset, SEEK_DATA));
			if (data < 0) {
				// ENXIO: no data from here to the end. Any other error: it can't tell.
				if (koffi.errno() !== ENXIO) yield { offset, length: sizeBytes - offset };
				return;
			}
			if (data >= sizeBytes) return;
			const found = Number(lseek(file.fd, data, SEEK_HOLE));
			const hole = found > data ? Math.min(found, sizeBytes) : sizeBytes;
			yield { offset: data, length: hole - data };
			offset = hole;
		}
	};
}

/** Pieces of at most `pieceBytes`, in order. */
export function* splitExtents(extents: Iterable<Extent>, pieceBytes: number): Generator<Extent> {
	for (const { offset, length } of extents) {
		for (let done = 0; done < length; done += pieceBytes)
			yield { offset: offset + done, length: Math.min(pieceBytes, length - done) };
	}
}

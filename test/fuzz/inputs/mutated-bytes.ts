import * as fc from "fast-check";

type ByteChange = {
	readonly kind: "flip" | "number" | "cut" | "zero" | "splice" | "noise";
	readonly at: number;
	readonly size: number;
	readonly value: bigint;
	readonly from: number;
};

const extremes = [
	0n,
	1n,
	0x7fn,
	0x80n,
	0xffn,
	0x7fffn,
	0xffffn,
	0x7fffffffn,
	0x80000000n,
	0xffffffffn,
	2n ** 53n,
	2n ** 63n,
	2n ** 64n - 1n,
];

const byteChange: fc.Arbitrary<ByteChange> = fc.record({
	kind: fc.constantFrom<ByteChange["kind"][]>(
		"flip",
		"flip",
		"number",
		"number",
		"number",
		"cut",
		"zero",
		"splice",
		"noise",
	),
	at: fc.nat(),
	size: fc.nat({ max: 4_096 }),
	value: fc.oneof(fc.constantFrom(...extremes), fc.bigInt({ min: 0n, max: 2n ** 64n - 1n })),
	from: fc.nat(),
});

/**
 * A real piece of bytes with a few faults in it.
 * @param places where in each sample the interesting bytes lie: half of all changes begin there
 * @param mend what makes checksums right again: without it no change behind a checksum is ever looked at
 */
export function mutatedBytes(
	samples: readonly Buffer[],
	{ places = [], mend }: { places?: readonly (readonly [number, number])[]; mend?: (bytes: Buffer) => void } = {},
): fc.Arbitrary<Buffer> {
	const change = fc.tuple(byteChange, fc.nat(), fc.boolean());
	return fc
		.tuple(fc.constantFrom(...samples), fc.array(change, { maxLength: 6 }), fc.boolean())
		.map(([sample, changes, mends]) => {
			let bytes: Buffer = Buffer.from(sample);
			for (const [one, which, near] of changes) {
				const place = near ? places[which % Math.max(1, places.length)] : undefined;
				bytes = changeOnce(bytes, one, place ?? [0, bytes.length], samples);
			}
			if (mends) mend?.(bytes);
			return bytes;
		});
}

function changeOnce(
	bytes: Buffer,
	{ kind, at, size, value, from }: ByteChange,
	[least, most]: readonly [number, number],
	samples: readonly Buffer[],
): Buffer {
	const end = Math.min(most, bytes.length);
	if (end <= least) return bytes;
	const place = least + (at % (end - least));
	switch (kind) {
		case "flip":
			bytes.writeUInt8(bytes.readUInt8(place) ^ (1 << (size % 8)), place);
			return bytes;
		case "number":
			writeNumber(bytes, value, [1, 2, 4, 8][size % 4] ?? 1, place, from % 2 === 0);
			return bytes;
		case "cut":
			return bytes.subarray(0, place);
		case "zero":
			return bytes.fill(size % 3 === 0 ? 0xff : 0, place, Math.min(end, place + size));
		case "splice": {
			const other = samples[from % samples.length] ?? bytes;
			const start = from % other.length;
			other.copy(bytes, place, start, start + size);
			return bytes;
		}
		case "noise":
			for (let index = place; index < Math.min(end, place + (size % 64)); index += 1)
				bytes.writeUInt8((from * (index + 1) * 2_654_435_761) & 0xff, index);
			return bytes;
	}
}

function writeNumber(bytes: Buffer, value: bigint, width: number, at: number, littleEndian: boolean): void {
	for (let index = 0; index < width && at + index < bytes.length; index += 1) {
		const shift = BigInt(8 * (littleEndian ? index : width - 1 - index));
		bytes.writeUInt8(Number((value >> shift) & 0xffn), at + index);
	}
}

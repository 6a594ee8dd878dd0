import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import * as fc from "fast-check";
import { kindOfFileSystem, parseNoDeviceTypes } from "../../../platform/linux/file-system-types.ts";
import { indexMounts, isUnder } from "../../../platform/linux/mount-lookup.ts";
import { type Mount, parseMountInfo, unescapeOctal } from "../../../platform/linux/mount-table.ts";
import { type FuzzTarget, fuzzTarget, neverThrows } from "../fuzz-target.ts";
import { hostileText } from "../inputs/hostile-values.ts";
import { mutatedText } from "../inputs/mutated-text.ts";
import { mountInfos, procTexts } from "../samples/texts.ts";

/** As the kernel's `seq_path` and `mangle` write it. */
function escapeOctal(text: string, alsoComma: boolean): string {
	const escaped = alsoComma ? /[ \t\n\\#,]/g : /[ \t\n\\#]/g;
	return text.replace(escaped, (one) => `\\${one.charCodeAt(0).toString(8).padStart(3, "0")}`);
}

function formatMountInfo(mounts: readonly Mount[]): string {
	return mounts
		.map((one) => {
			const { id, parentId, superblock, options } = one;
			const [root, mountPoint, fsType, source] = [one.root, one.mountPoint, one.fsType, one.source].map((text) =>
				escapeOctal(text, false),
			);
			const superOptions = one.superOptions.map((text) => escapeOctal(text, true)).join(",");
			return `${id} ${parentId} ${superblock} ${root} ${mountPoint} ${options.join(",")} shared:1 - ${fsType} ${source} ${superOptions}\n`;
		})
		.join("");
}

/** The walk in its simplest form: through all mounts at each step. */
function walk(mounts: readonly Mount[], path: string): Mount | undefined {
	const ids = new Set(mounts.map(({ id }) => id));
	const roots = mounts.filter(({ mountPoint }) => mountPoint === "/");
	let current = roots.find(({ parentId }) => !ids.has(parentId)) ?? roots[0];
	for (const seen = new Set<number>(); current !== undefined && !seen.has(current.id); ) {
		const { id } = current;
		seen.add(id);
		const below = mounts.filter((one) => one.parentId === id && one.id !== id && isUnder(path, one.mountPoint));
		const [next] = below.toSorted((a, b) => a.mountPoint.length - b.mountPoint.length);
		if (next === undefined) return current;
		current = next;
	}
	return current;
}

export function mountInfoTargets(): FuzzTarget[] {
	const real = readFileSync("/proc/self/mountinfo", "utf8");
	const text = fc.string({ unit: "binary", minLength: 1, maxLength: 12 });
	const id = fc.nat({ max: 40 });
	const mount: fc.Arbitrary<Mount> = fc.record(
		{
			id,
			parentId: id,
			superblock: fc.tuple(fc.nat({ max: 4_095 }), fc.nat({ max: 1_048_575 })).map((pair) => pair.join(":")),
			root: text,
			mountPoint: fc.oneof(
				fc.constantFrom("/", "/a", "/a/b", "/a/b/c"),
				text.map((one) => `/${one}`),
			),
			options: fc.uniqueArray(fc.constantFrom("rw", "ro", "nodev"), { minLength: 1 }),
			fsType: fc.constantFrom("ext4", "xfs", "btrfs", "fuse.sshfs", "overlay", "tmpfs"),
			source: text,
			superOptions: fc.array(text, { minLength: 1, maxLength: 3 }),
		},
		{ noNullPrototype: true },
	);
	return [
		fuzzTarget({
			name: "mount-table",
			parser: "platform/linux/mount-table.ts parseMountInfo, mount-lookup.ts indexMounts",
			inputs: mutatedText([real, ...mountInfos]),
			run: (input) => {
				const mounts = parseMountInfo(input);
				const noDevice = new Set<string>();
				const lookup = indexMounts(mounts);
				for (const one of mounts) {
					kindOfFileSystem(one, noDevice);
					lookup.isVisible(one);
				}
			},
		}),
		fuzzTarget({
			name: "mount-table-round-trip",
			parser: "platform/linux/mount-table.ts parseMountInfo",
			inputs: fc.array(mount, { maxLength: 12 }),
			run: (mounts) => assert.deepEqual(parseMountInfo(formatMountInfo(mounts)), mounts),
			mayThrow: neverThrows,
		}),
		fuzzTarget({
			name: "mount-lookup",
			parser: "platform/linux/mount-lookup.ts indexMounts",
			inputs: fc.tuple(fc.array(mount, { maxLength: 60 }), hostileText),
			run: ([mounts, path]) => {
				const lookup = indexMounts(mounts);
				for (const one of [path, ...mounts.map(({ mountPoint }) => mountPoint)])
					assert.equal(lookup.find(one)?.id, walk(mounts, one)?.id);
			},
			mayThrow: neverThrows,
		}),
		fuzzTarget({
			name: "octal-escapes",
			parser: "platform/linux/mount-table.ts unescapeOctal",
			inputs: fc.oneof(hostileText, fc.string({ unit: "binary", maxLength: 200 })),
			run: (input) => {
				assert.equal(unescapeOctal(escapeOctal(input, true)), input);
				assert.ok(unescapeOctal(input).length <= input.length);
			},
			mayThrow: neverThrows,
		}),
		fuzzTarget({
			name: "file-system-types",
			parser: "platform/linux/file-system-types.ts parseNoDeviceTypes",
			inputs: mutatedText(procTexts.fileSystems),
			run: (input) => void parseNoDeviceTypes(input),
			mayThrow: neverThrows,
		}),
	];
}

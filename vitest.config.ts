import { join } from "node:path";
import { defineConfig } from "vitest/config";
import { BaseSequencer, type TestSpecification } from "vitest/node";

/** What a process of ours costs is mostly its start, and they are thousands: see test/fixtures/compiled-folder.ts. */
const env = { NODE_COMPILE_CACHE: join(import.meta.dirname, "node_modules/.cache/stillpoint-tests") };

/** They plan over all loop devices of the machine: no other file of theirs, and none of `guest`, runs beside them. */
const planners = ["freeze-plan", "freezer"].map((name) => `test/guest/${name}.test.ts`);

/** It keeps a core busy for its whole time: `npm run test:faults` runs it with the machine for itself. */
const faults = ["test/guest/fault-table.test.ts"];

/** It strikes machines of its own side by side, and watches the one switch that they share: last, and alone. */
const sweep = ["test/guest/fault-sweep.test.ts"];

/** What begins last must not be what takes longest. In each ring: minutes first, then seconds; the rest by size. */
const longest = [
	["fuzz"],
	["verify", "demo", "azure-guest-faults", "azure-guest", "snapshot-exclusive", "agent-faults"],
	["postgresql-faults", "mariadb-faults", "postgresql", "mariadb", "verify-databases", "verify-btrfs", "verify-disks"],
	["snapshot-applications", "other-scripts"],
	["snapshot-levels", "quiet-window", "controller-copy", "snapshot-faults", "snapshot-storage", "snapshot-asker"],
	["agent-life", "link-once", "freezer", "command-line", "controller-snapshot", "extension-kit-checks", "agent-link"],
	["extension-guide", "agent-jobs", "ledger-faults", "files-in-the-way", "handler-contract", "link-proxy"],
].flat();

class LongestFirst extends BaseSequencer {
	override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
		const place = ({ moduleId }: TestSpecification) => {
			const at = longest.findIndex((name) => moduleId.endsWith(`/${name}.test.ts`));
			return at < 0 ? longest.length : at;
		};
		return (await super.sort(files)).sort((a, b) => place(a) - place(b));
	}
}

/**
 * The rings, from quick to real, in four groups one after another. `guest` mounts and freezes loop images of each
 * file's own; it runs after the others and with fewer files at a time, because it looks at deadlines of seconds while
 * it copies images. Most of their time tests wait for processes, sockets and deadlines: more files than cores at a
 * time keep two cores busy.
 */
export default defineConfig({
	test: {
		maxWorkers: 4,
		sequence: { sequencer: LongestFirst },
		projects: [
			{ test: { env, name: "unit", include: ["test/unit/**/*.test.ts"], isolate: false } },
			{ test: { env, name: "architecture", include: ["test/architecture/**/*.test.ts"], isolate: false } },
			{
				test: {
					env,
					name: "guest-plan",
					include: planners.slice(0, 1),
					testTimeout: 120_000,
					hookTimeout: 120_000,
				},
			},
			{
				test: {
					env,
					name: "guest-freezer",
					include: planners.slice(1),
					testTimeout: 120_000,
					hookTimeout: 120_000,
					maxWorkers: 6,
					sequence: { groupOrder: 1 },
				},
			},
			{
				test: {
					env,
					name: "integration",
					include: ["test/integration/**/*.test.ts"],
					testTimeout: 60_000,
					hookTimeout: 60_000,
					maxWorkers: 6,
					sequence: { groupOrder: 1 },
				},
			},
			{
				test: {
					env,
					name: "fuzz",
					include: ["test/fuzz/**/*.test.ts"],
					testTimeout: 120_000,
					hookTimeout: 120_000,
					maxWorkers: 6,
					sequence: { groupOrder: 1 },
				},
			},
			{
				test: {
					env,
					name: "guest",
					include: ["test/guest/**/*.test.ts"],
					exclude: [...planners, ...faults, ...sweep],
					testTimeout: 120_000,
					hookTimeout: 120_000,
					sequence: { groupOrder: 2 },
				},
			},
			{
				test: {
					env,
					name: "sweep",
					include: sweep,
					testTimeout: 300_000,
					hookTimeout: 120_000,
					sequence: { groupOrder: 3 },
				},
			},
			{ test: { env, name: "faults", include: faults, testTimeout: 120_000, hookTimeout: 120_000 } },
		],
	},
});

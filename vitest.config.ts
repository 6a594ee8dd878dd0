import { defineConfig } from "vitest/config";

/** They plan over all loop devices of the machine, or keep all cores busy themselves. */
const alone = ["fault-table", "freeze-plan", "freezer"].map((name) => `test/guest/${name}.test.ts`);

/**
 * The rings, from quick to real. `guest` mounts and freezes loop images of each file's own; it runs after the others
 * and with fewer files at a time, because it looks at deadlines of seconds while it copies images.
 */
export default defineConfig({
	test: {
		// Most of their time tests wait for processes, sockets and deadlines: more of them than cores keep two cores busy.
		maxWorkers: 4,
		projects: [
			{ test: { name: "unit", include: ["test/unit/**/*.test.ts"] } },
			{ test: { name: "architecture", include: ["test/architecture/**/*.test.ts"] } },
			{
				test: {
					name: "integration",
					include: ["test/integration/**/*.test.ts"],
					testTimeout: 60_000,
					hookTimeout: 60_000,
				},
			},
			{
				test: {
					name: "guest",
					include: ["test/guest/**/*.test.ts"],
					exclude: alone,
					testTimeout: 120_000,
					hookTimeout: 120_000,
					maxWorkers: 3,
					sequence: { groupOrder: 1 },
				},
			},
			{
				test: {
					name: "guest-alone",
					include: alone,
					testTimeout: 120_000,
					hookTimeout: 120_000,
					fileParallelism: false,
					sequence: { groupOrder: 2 },
				},
			},
		],
	},
});

import { cpSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { defineConfig, type OutputOptions, type Plugin, type RolldownOptions } from "rolldown";

/**
 * `dist/stillpoint.mjs` and the installable package `dist/extensions/VMSnapshotLinux/`. Bundled, a process reads a few
 * files instead of a hundred: it starts faster and holds less memory. koffi stays outside, because it carries a native
 * library: the files it needs are copied beside the programs.
 */
const root = dirname(fileURLToPath(import.meta.url));
/** Another folder than `dist` by the environment, so that a demo or a test has a bundle of its own. */
const dist = process.env["STILLPOINT_DIST"] ?? join(root, "dist");
const extension = join(dist, "extensions", "VMSnapshotLinux");
const kit = join(dist, "extension-kit");

export default defineConfig([
	program(
		{
			stillpoint: "command-line/stillpoint.ts",
			guard: "command-line/guard-program.ts",
			"database-check-program": "controller/verify/database-check-program.ts",
			// For `stillpoint check`, which probes without the package of the extension.
			"write-probe": "extensions/vm-snapshot-linux/write-probe.ts",
		},
		dist,
		() => {
			copyKoffi(dist);
			cpSync(join(root, "scripts"), join(dist, "scripts"), { recursive: true });
		},
	),
	program(
		{
			"vm-snapshot-linux": "extensions/vm-snapshot-linux/vm-snapshot-linux.ts",
			freezer: "extensions/vm-snapshot-linux/freezer.ts",
			"write-probe": "extensions/vm-snapshot-linux/write-probe.ts",
		},
		extension,
		() => {
			copyKoffi(extension);
			// Under another host's agent the package is all that there is of us.
			cpSync(join(root, "scripts"), join(extension, "scripts"), { recursive: true });
			const manifest = readFileSync(join(root, "extensions/vm-snapshot-linux/HandlerManifest.json"), "utf8");
			writeFileSync(join(extension, "HandlerManifest.json"), manifest.replaceAll(".ts", ".mjs"));
		},
	),
	// One file, because an author copies it into a package.
	program(
		{ "stillpoint-kit": "extensions/kit/kit.ts" },
		kit,
		() => {
			cpSync(join(root, "extensions/kit/templates"), join(kit, "templates"), { recursive: true });
		},
		{ codeSplitting: false, minify: true },
	),
]);

function program(
	input: Record<string, string>,
	folder: string,
	afterwards: () => void,
	output: OutputOptions = {},
): RolldownOptions {
	const finish: Plugin = {
		name: "stillpoint-package",
		buildStart: () => {
			mkdirSync(folder, { recursive: true });
			// Names of chunks carry a hash: old ones would pile up.
			for (const name of readdirSync(folder)) if (name.endsWith(".mjs")) rmSync(join(folder, name));
		},
		writeBundle: afterwards,
	};
	return {
		input,
		platform: "node",
		external: ["koffi", "bufferutil", "utf-8-validate"],
		plugins: [finish],
		output: {
			dir: folder,
			format: "esm",
			entryFileNames: "[name].mjs",
			chunkFileNames: "[name]-[hash].mjs",
			minify: false,
			...output,
		},
	};
}

function copyKoffi(folder: string): void {
	const target = `koffi-${process.platform}-${process.arch}`;
	for (const name of ["koffi", `@koromix/${target}`]) {
		const from = join(root, "node_modules", name);
		cpSync(from, join(folder, "node_modules", name), {
			recursive: true,
			filter: (path) => !/\/(doc|vendor|lib|musl_[^/]*)$|\.(cc|hh|inc|md|S|asm|txt)$/.test(path),
		});
	}
}

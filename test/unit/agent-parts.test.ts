import { describe, expect, test } from "vitest";
import { parseCommandLine } from "../../agent/extension-host/command-line-words.ts";
import { requireSnapshotExtension } from "../../agent/extension-host/find-extensions.ts";
import { compareVersions, type InstalledExtension } from "../../agent/extension-host/installed-extension.ts";
import { formatLogLine } from "../../agent/log-format.ts";
import { isOtherMachine, parseIdentity } from "../../agent/machine-change.ts";
import { makePhaseTracker } from "../../agent/phase-tracker.ts";
import { runParts } from "../../agent/run-parts.ts";
import { asSqliteError } from "../../agent/sqlite-error.ts";
import { handlerManifestSchema } from "../../contracts/extension.ts";
import { type JobPhase, jobPhases } from "../../contracts/hold-protocol.ts";

describe("phases", () => {
	test("every step of the table is allowed, every other one is refused and changes nothing", () => {
		const all = Object.keys(jobPhases) as JobPhase[];
		for (const from of all)
			for (const to of all.filter((one) => one !== from)) {
				const phases = makePhaseTracker(() => {});
				phases.force(from);
				const allowed = (jobPhases[from] as readonly string[]).includes(to);
				if (allowed) expect(phases.advance(to)).toBe(true);
				else expect(() => phases.advance(to)).toThrow(`from ${from} to ${to}`);
				expect(phases.phase).toBe(allowed ? to : from);
			}
	});

	test("from every phase that may hold a freeze, `done` is reached only by way of `thawing`", () => {
		const reachesDone = (from: JobPhase, seen: ReadonlySet<string>): boolean =>
			from === "done" ||
			(jobPhases[from] as readonly JobPhase[]).some((to) => !seen.has(to) && reachesDone(to, new Set([...seen, to])));
		for (const from of ["freezing", "frozen"] as const) {
			expect(reachesDone(from, new Set())).toBe(true);
			expect(reachesDone(from, new Set(["thawing", "undoing"]))).toBe(false);
		}
	});

	test("the phase that it is already is no change", () => {
		const seen: JobPhase[] = [];
		const phases = makePhaseTracker((phase) => seen.push(phase));
		expect(phases.advance("queued")).toBe(false);
		expect(phases.advance("planning")).toBe(true);
		expect(phases.advance("planning")).toBe(false);
		expect(seen).toEqual(["planning"]);
	});
});

describe("parts", () => {
	function part(name: string, log: string[], fault?: Error) {
		return {
			name,
			start: () => {
				if (fault) throw fault;
				log.push(`+${name}`);
				return { [Symbol.asyncDispose]: async () => void log.push(`-${name}`) };
			},
		};
	}

	test("stop in reverse order", async () => {
		const log: string[] = [];
		const stop = new AbortController();
		await runParts([part("a", log), part("b", log)], stop.signal, () => {
			log.push("ready");
			stop.abort();
		});
		expect(log).toEqual(["+a", "+b", "ready", "-b", "-a"]);
	});

	test("one that cannot start stops those before it, and its fault comes out", async () => {
		const log: string[] = [];
		await expect(
			runParts([part("a", log), part("b", log, new Error("no"))], new AbortController().signal, () =>
				log.push("ready"),
			),
		).rejects.toThrow("no");
		expect(log).toEqual(["+a", "-a"]);
	});

	test("a stop during the last start is not missed", async () => {
		const log: string[] = [];
		const stop = new AbortController();
		const stopsWhileStarting = (controller: AbortController) => ({
			name: "b",
			start() {
				controller.abort();
				return part("b", log).start();
			},
		});
		const stopping = stopsWhileStarting(stop);
		await runParts([part("a", log), stopping, part("never", log)], stop.signal, () => log.push("ready"));
		expect(log).toEqual(["+a", "+b", "-b", "-a"]);
		log.length = 0;
		const again = new AbortController();
		await runParts([stopsWhileStarting(again)], again.signal, () => {});
		expect(log).toEqual(["+b", "-b"]);
	});
});

describe("command lines of manifests", () => {
	test("are words between blanks; node is the Node that runs us; a relative path starts in the package", () => {
		expect(parseCommandLine("  node  run.ts   --x ", "/p")).toEqual([process.execPath, "run.ts", "--x"]);
		expect(parseCommandLine("bin/enable", "/p")).toEqual(["/p/bin/enable"]);
		expect(parseCommandLine("/usr/bin/true", "/p")).toEqual(["/usr/bin/true"]);
		expect(parseCommandLine("bash a.sh; rm -rf /", "/p")).toEqual(["bash", "a.sh;", "rm", "-rf", "/"]);
		expect(() => parseCommandLine("   ", "/p")).toThrow(/empty/);
	});
});

describe("the extension that takes snapshots", () => {
	const extension = (
		name: string,
		version: string,
		state = "Enabled",
		snapshotCommand?: string,
	): InstalledExtension => ({
		name,
		version,
		folder: `/x/${name}-${version}`,
		state,
		manifest: handlerManifestSchema.parse({
			name,
			version,
			handlerManifest: {
				installCommand: "a",
				uninstallCommand: "a",
				updateCommand: "a",
				enableCommand: "a",
				disableCommand: "a",
				...(snapshotCommand ? { snapshotCommand } : {}),
			},
		}),
	});

	test("is the newest enabled one that can, of the name when one is given", () => {
		const all = [
			extension("A", "1.9", "Enabled", "s"),
			extension("A", "1.10", "Enabled", "s"),
			extension("A", "2.0", "Failed: extension-failed", "s"),
			extension("B", "3.0", "Enabled"),
			extension("C", "1.0", "Enabled", "s"),
		];
		expect(requireSnapshotExtension(all, undefined)).toMatchObject({ name: "A", version: "1.10" });
		expect(requireSnapshotExtension(all, "C")).toMatchObject({ name: "C" });
		expect(() => requireSnapshotExtension(all, "B")).toThrow(expect.objectContaining({ code: "extension-missing" }));
		expect(() => requireSnapshotExtension([], undefined)).toThrow(
			expect.objectContaining({ code: "extension-missing" }),
		);
	});

	test("versions compare as numbers", () => {
		expect(["1.10", "1.9", "2", "1.9.0.1"].sort(compareVersions)).toEqual(["1.9", "1.9.0.1", "1.10", "2"]);
		expect(compareVersions("1.0", "1")).toBe(0);
	});
});

describe("log lines", () => {
	test("hide what is secret and let no control character through", () => {
		const line = formatLogLine(
			{ level: "warn", message: "a\u001b[2Jb\nc", part: "job", token: "s3cret", nested: { a: 1 }, text: "two words" },
			new Date(0),
		);
		expect(line).toBe('1970-01-01T00:00:00.000Z warn  [job] a [2Jb c token=(hidden) nested={"a":1} text="two words"\n');
	});

	test("are bounded, and what cannot be shown does not end the agent", () => {
		const loop: Record<string, unknown> = {};
		loop["self"] = loop;
		expect(formatLogLine({ level: "info", message: "x".repeat(100_000), loop }, new Date(0)).length).toBeLessThan(
			9_000,
		);
		expect(formatLogLine({ level: "info", message: "m", loop, big: 1n }, new Date(0))).toMatch(/cannot be shown/);
	});
});

describe("a copy of a machine", () => {
	test("is another machine when a part that both know differs", () => {
		const here = { machineId: "a", systemUuid: "b" };
		expect(isOtherMachine(here, here)).toBe(false);
		expect(isOtherMachine(here, { ...here, systemUuid: "c" })).toBe(true);
		expect(isOtherMachine(here, { ...here, machineId: "c" })).toBe(true);
		expect(isOtherMachine({ machineId: "a" }, { systemUuid: "b" })).toBe(false);
		expect(parseIdentity("no json")).toBeUndefined();
		expect(parseIdentity("null")).toBeUndefined();
	});
});

test("every fault of SQLite gets a code", () => {
	const fault = (errcode: number) => asSqliteError(Object.assign(new Error("x"), { errcode }), "/f").code;
	expect([13, 11, 267, 26, 8, 10, 778, 14, 5, 1, 999_998].map(fault)).toEqual([
		"disk-full",
		"journal-corrupt",
		"journal-corrupt",
		"journal-corrupt",
		"state-unusable",
		"state-unusable",
		"disk-full",
		"state-unusable",
		"already-running",
		"journal-corrupt",
		"internal",
	]);
	expect(asSqliteError("text", "/f").code).toBe("internal");
});

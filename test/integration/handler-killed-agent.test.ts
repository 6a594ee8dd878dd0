import { existsSync, readFileSync } from "node:fs";
import { describe, test } from "vitest";
import { findHandlerProcesses } from "../../agent/extension-host/handler-processes.ts";
import { eventually, type HandlerBench, makeHandlerBench } from "../fixtures/handler-bench.ts";
import { requireTools } from "../fixtures/required-tools.ts";

const missing = requireTools("root", "unshare", "mount", "openssl");
const shell = "Contoso.ShellHandler";

/** How long the stage lasts in which the agent is killed, in seconds: as long as the next life needs to see it. */
const slowSeconds = "2";

describe.skipIf(missing)(`an agent killed while it runs a handler${missing ? `: ${missing}` : ""}`, () => {
	const history = (bench: HandlerBench) => bench.viewLines(shell, "shell-history");
	const count = (bench: HandlerBench, line: string) => history(bench).filter((one) => one === line).length;
	const isThere = (bench: HandlerBench, version: string) =>
		bench.until(shell, (one) => one.state === "Enabled" && one.status === "success" && one.version === version);
	const worked = (bench: HandlerBench) => history(bench).filter((line) => line.startsWith("worked")).length;

	test.concurrent("in install: the command ends by itself, is taken up, and is not run again", async ({ expect }) => {
		await using bench = makeHandlerBench();
		bench.addPackage("shell-handler");
		bench.want(shell, { publicSettings: { "slow-install": slowSeconds } });
		await bench.start();
		await eventually(
			() => history(bench).at(-1),
			(line) => line === "install seq=0",
		);
		await bench.restart("SIGKILL");
		await isThere(bench, "1.0");
		expect(count(bench, "install seq=0")).toBe(1);
		expect(count(bench, "install done")).toBe(1);
		expect(worked(bench)).toBe(1);
	});

	test.concurrent("in enable: its job is done once", async ({ expect }) => {
		await using bench = makeHandlerBench();
		bench.addPackage("shell-handler");
		bench.want(shell, { sequenceNumber: 2, publicSettings: { "slow-enable": slowSeconds } });
		await bench.start();
		await eventually(
			() => history(bench).at(-1),
			(line) => line === "enable seq=2",
		);
		await bench.restart("SIGKILL");
		await isThere(bench, "1.0");
		expect(count(bench, "enable seq=2")).toBe(1);
		expect(worked(bench)).toBe(1);
		expect(readFileSync(bench.installedPath(`${shell}-1.0`, "mrseq"), "utf8").trim()).toBe("2");
	});

	test.concurrent("and its command with it, as at a loss of power: the command is run again", async ({ expect }) => {
		await using bench = makeHandlerBench();
		bench.addPackage("shell-handler");
		bench.want(shell, { publicSettings: { "slow-install": "30" } });
		const agent = await bench.start();
		await eventually(
			() => history(bench).at(-1),
			(line) => line === "install seq=0",
		);
		agent.child.kill("SIGKILL");
		await agent.exited;
		bench.want(shell, { publicSettings: {} });
		const all = findHandlerProcesses({ stateView: bench.viewPath(shell, "").replace(/\/$/, "") });
		expect(all.length).toBeGreaterThan(0);
		for (const { pid } of all) process.kill(pid, "SIGKILL");
		await bench.start();
		// The settings that the interrupted one read are written anew before it is run again.
		await isThere(bench, "1.0");
		expect(count(bench, "install seq=0")).toBe(2);
		expect(count(bench, "install done")).toBe(1);
	});

	for (const stage of ["update", "uninstall", "install"])
		test.concurrent(`in the ${stage} of an update: the update goes on where it was`, async ({ expect }) => {
			await using bench = makeHandlerBench();
			bench.addPackage("shell-handler");
			bench.want(shell, { sequenceNumber: 1 });
			await bench.start();
			await isThere(bench, "1.0");
			bench.addPackage("shell-handler", (manifest) => {
				manifest.version = "1.1";
			});
			bench.want(shell, { sequenceNumber: 1, publicSettings: { [`slow-${stage}`]: slowSeconds } });
			const before = count(bench, `${stage} seq=1`);
			await bench.apply();
			await eventually(
				() => count(bench, `${stage} seq=1`),
				(times) => times === before + 1,
			);
			await bench.restart("SIGKILL");
			await isThere(bench, "1.1");
			expect(count(bench, `${stage} seq=1`)).toBe(before + 1);
			for (const command of ["update", "uninstall"]) expect(count(bench, `${command} done`)).toBe(1);
			expect(count(bench, "install done")).toBe(2);
			expect(count(bench, "disable done")).toBe(1);
			expect(existsSync(bench.installedPath(`${shell}-1.0`, ""))).toBe(false);
			expect(worked(bench)).toBe(1);
		});
});

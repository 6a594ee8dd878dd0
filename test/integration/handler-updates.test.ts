import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type HandlerBench, makeHandlerBench } from "../fixtures/handler-bench.ts";
import { poll } from "../fixtures/poll.ts";
import { requireTools } from "../fixtures/required-tools.ts";

const missing = requireTools("root", "unshare", "mount", "openssl", "python3");
const python = "Fabrikam.PythonHandler";

describe.skipIf(missing)(`a new version of a handler${missing ? `: ${missing}` : ""}`, () => {
	let bench: HandlerBench;
	const history = () => bench.viewLines(python, "python-history").map((line) => line.trim());
	/** Commands since a line, without their environment. */
	const since = (start: number) =>
		history()
			.slice(start)
			.map((line) => line.split(" ").slice(0, 2).join(" "));
	const versions = () =>
		readdirSync(bench.installedPath("", ""))
			.filter((name) => name.startsWith(python))
			.sort();
	const addVersion = (version: string, ...failsAt: string[]) => {
		const folder = bench.addPackage("python-handler", (manifest) => {
			manifest.version = version;
		});
		for (const word of failsAt) writeFileSync(join(folder, `fails-at-${word}`), "");
		return folder;
	};

	beforeAll(async () => {
		bench = makeHandlerBench();
		addVersion("1.0.0");
		bench.want(python, { sequenceNumber: 3 });
		await bench.start();
	});
	afterAll(() => bench?.[Symbol.asyncDispose]());

	test("whose update fails leaves the old one enabled, and says so", async () => {
		await bench.until(python, (found) => found.status === "success");
		const from = history().length;
		const folder = addVersion("2.0.0", "update");
		await bench.apply();
		const one = await bench.until(
			python,
			(found) => found.error !== undefined && found.lastCommand?.command === "enable" && since(from).length === 3,
		);
		expect(one).toMatchObject({ version: "1.0.0", error: { code: "extension-failed" } });
		expect(one.error?.message).toMatch(/the update to 2\.0\.0 failed, 1\.0\.0 stays: update .* exit status 9/);
		await poll(() => since(from)).toEqual(["disable 3", "update 3", "enable 3"]);
		await bench.until(python, (found) => found.lastCommand?.command === "enable" && found.state === "Enabled");
		const state = readFileSync(bench.installedPath(`${python}-2.0.0`, "config/HandlerState"), "utf8");
		expect(state).toBe("FailedUpgrade");
		// A start does not try it again.
		await bench.restart();
		await bench.until(python, (found) => found.state === "Enabled" && found.version === "1.0.0");
		expect(since(from)).toEqual(["disable 3", "update 3", "enable 3", "enable 3"]);
		rmSync(folder, { recursive: true });
	});

	test("is reached in the contract's order; mrseq and status come along, the old folder goes", async () => {
		const from = history().length;
		addVersion("2.0.0");
		await bench.apply();
		await bench.until(python, (found) => found.version === "2.0.0" && found.state === "Enabled");
		await poll(() => since(from)).toEqual(["disable 3", "update 3", "uninstall 3", "install 3", "enable 3"]);
		const [, update, , install] = history().slice(from);
		expect(update).toContain("AZURE_GUEST_AGENT_UPDATING_FROM_VERSION=1.0.0");
		expect(update).toContain("AZURE_GUEST_AGENT_DISABLE_CMD_EXIT_CODE=0");
		expect(update).toContain("VERSION=2.0.0");
		expect(install).toContain("AZURE_GUEST_AGENT_UNINSTALL_CMD_EXIT_CODE=0");
		expect(versions()).toEqual([`${python}-2.0.0`]);
		expect(history().filter((line) => line.startsWith("worked"))).toHaveLength(1);
		const [one] = (await bench.list()).filter(({ name }) => name === python);
		expect(one).toMatchObject({ name: python, status: "success", message: "finished 3" });
	});

	test("that fails to install after the old one is gone is FailedUpgrade, and goes on there when it can", async () => {
		const from = history().length;
		const folder = addVersion("3.0.0", "install");
		await bench.apply();
		const one = await bench.until(python, (found) => found.error !== undefined && found.status === "error");
		expect(one.error?.message).toContain("failed after the old version was uninstalled");
		expect(one).toMatchObject({ state: "FailedUpgrade", version: "3.0.0", status: "error" });
		expect(since(from)).toEqual(["disable 3", "update 3", "uninstall 3", "install 3"]);
		expect(readFileSync(bench.installedPath(`${python}-3.0.0`, "config/HandlerState"), "utf8")).toBe("FailedUpgrade");
		expect(versions()).toEqual([`${python}-3.0.0`]);
		for (const at of [folder, bench.installedPath(`${python}-3.0.0`, "")]) rmSync(join(at, "fails-at-install"));
		await bench.apply();
		await bench.until(python, (found) => found.state === "Enabled" && found.version === "3.0.0");
		expect(since(from).slice(4)).toEqual(["install 3", "enable 3"]);
	});

	test("that is older runs the old one's update, told which version it goes to", async () => {
		const from = history().length;
		rmSync(join(bench.folders.root, "handlers", "python-handler-3.0.0"), { recursive: true });
		rmSync(join(bench.folders.root, "handlers", "python-handler-2.0.0"), { recursive: true });
		await bench.apply();
		await bench.until(python, (found) => found.version === "1.0.0" && found.state === "Enabled");
		const update = history().slice(from)[1];
		expect(update).toContain(`AZURE_GUEST_AGENT_EXTENSION_PATH=/var/lib/waagent/${python}-3.0.0`);
		expect(update).toContain("VERSION=1.0.0");
		expect(versions()).toEqual([`${python}-1.0.0`]);
	});

	test("goes on over a failing disable when its manifest says so, and is told the exit status", async () => {
		const from = history().length;
		writeFileSync(bench.installedPath(`${python}-1.0.0`, "fails-at-disable"), "");
		writeFileSync(bench.installedPath(`${python}-1.0.0`, "fails-at-uninstall"), "");
		bench.addPackage("python-handler", (manifest) => {
			manifest.version = "4.0.0";
			Object.assign(manifest.handlerManifest, { continueOnUpdateFailure: "true", updateMode: "UpdateWithoutInstall" });
		});
		await bench.apply();
		await bench.until(
			python,
			(found) => found.version === "4.0.0" && found.state === "Enabled" && found.lastCommand?.command === "enable",
		);
		expect(since(from)).toEqual(["disable 3", "update 3", "uninstall 3", "enable 3"]);
		expect(history()[from + 1]).toContain("AZURE_GUEST_AGENT_DISABLE_CMD_EXIT_CODE=9");
		expect(existsSync(bench.installedPath(`${python}-1.0.0`, ""))).toBe(false);
	});
});

/** Scripts that people have for other agents, in jobs on real file systems. */
import { mkdtemp, readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { beforeEach, describe, expect, test } from "vitest";
import type { OrderInput } from "../../contracts/order.ts";
import { noOtherScripts, type OtherScripts } from "../../contracts/other-scripts.ts";
import type { Report } from "../../contracts/report.ts";
import { makeAzureGuest, readTold } from "../fixtures/azure-guest.ts";
import { requireTools } from "../fixtures/loop-file-system.ts";
import { isWritable, takeSnapshot, toFrozen } from "../fixtures/snapshot-asker.ts";
import { useSnapshotBench } from "../fixtures/snapshot-bench.ts";
import type { TestHost } from "../fixtures/snapshot-host.ts";

const missing = requireTools("root", "mkfs.ext4", "losetup", "mount", "fsfreeze");
const missingForAzure = requireTools("openssl");
const application: Partial<OrderInput> = { level: "application" };

describe.skipIf(missing)(`scripts of other agents${missing ? `: ${missing}` : ""}`, () => {
	const bench = useSnapshotBench();
	let folder: string;
	let configPath: string;
	beforeEach(async () => {
		folder = await mkdtemp(join(bench.dir, "others-"));
		configPath = join(folder, "VMSnapshotScriptPluginConfig.json");
	});

	describe("of Azure's extension", () => {
		test("that are quiet make the snapshot application-consistent, with their parameters", async () => {
			await writeConfig({ preScriptParams: ["a b", "c"], postScriptParams: ["d"] });
			const report = await snapshot(application);
			expect(report).toMatchObject({ achieved: "application", because: [] });
			expect(await told()).toEqual(["pre a b|c", "post d"]);
		});

		test("the template as it is installed is no application", async () => {
			await writeConfig({ preScriptLocation: "", postScriptLocation: "" });
			expect(await snapshot(application)).toMatchObject({ achieved: "file-system", because: ["no-applications"] });
		});

		test("a script that fails lowers the level, or fails the job where that is said", async () => {
			await writeScript("pre", "exit 1");
			await writeConfig({});
			const host = await start(application);
			await toFrozen(host);
			expect((await host.event("frozen")).worth).toBe("file-system");
			const report = await takeSnapshot(host, [bench.one]);
			expect(report).toMatchObject({ achieved: "file-system", because: ["script-failed"] });
			expect(await told()).toEqual(["pre ", "post "]);
			await writeConfig({ continueBackupOnFailure: false });
			expect((await failingBeforeFreeze(application)).error?.code).toBe("script-failed");
			await writeScript("pre", "exit 0");
			await writeScript("post", "exit 1");
			const failed = await snapshot(application);
			expect(failed).toMatchObject({ achieved: "file-system", error: { code: "script-failed" } });
		});

		test("is tried again in a process of its own, as often as is said and no more", async () => {
			await writeScript("pre", `[ "$(grep -c '^pre' ${folder}/told)" -ge 3 ]`);
			await writeConfig({ preScriptNoOfRetries: 2 });
			expect(await snapshot(application)).toMatchObject({ achieved: "application" });
			expect(await told()).toEqual(["pre ", "pre ", "pre ", "post "]);
			await writeFile(join(folder, "told"), "");
			await writeConfig({ preScriptNoOfRetries: 1, continueBackupOnFailure: false });
			expect((await failingBeforeFreeze(application)).error?.code).toBe("script-failed");
			expect(await told()).toEqual(["pre ", "pre ", "post "]);
		});

		test("a configuration that is broken never fails the job, stands in its report, and is never application", async () => {
			await writeFile(configPath, '{ "preScriptLocation": // here', { mode: 0o600 });
			const report = await snapshot(application);
			expect(report).toMatchObject({ achieved: "file-system", because: ["script-failed"] });
			expect(report.error).toBeUndefined();
			expect(report.scripts).toMatchObject([{ name: "azure-script", error: { code: "script-config-invalid" } }]);
			const refused = await start({ ...application, acceptLevel: "application" });
			const { error } = await refused.report();
			expect(error?.code).toBe("level-unreachable");
			expect(error?.message).toContain(configPath);
			expect(refused.events.some(({ type }) => type === "targets")).toBe(false);
		});

		test("a script that others may read is not run", async () => {
			await writeScript("pre", "exit 0", 0o744);
			await writeConfig({});
			const report = await snapshot(application);
			expect(report).toMatchObject({ achieved: "file-system", because: ["script-failed"] });
			expect(report.scripts.map(({ phase, error }) => [phase, error?.code])).toEqual([
				["pre", "script-untrusted"],
				["post", undefined],
			]);
		});
	});

	describe("with fsFreezeEnabled=false", () => {
		beforeEach(() => writeConfig({ fsFreezeEnabled: false }));

		test("more than crash is refused before anything is touched, by the name of the file", async () => {
			for (const level of ["application", "file-system"] as const) {
				const host = await start({ level, acceptLevel: "file-system" });
				const { error, because } = await host.report();
				expect(error?.code).toBe("level-unreachable");
				expect(error?.message).toContain(`${configPath}: fsFreezeEnabled is false`);
				expect(because).toEqual(["snapshot-not-taken"]);
				expect(host.events.some(({ type }) => type === "targets" || type === "freezing")).toBe(false);
			}
			expect(await told()).toEqual([]);
		});

		test("scripts run and nothing is frozen: crash, with the reason, and nothing is left", async () => {
			const host = await start({ ...application, acceptLevel: "crash" });
			await toFrozen(host);
			expect((await host.event("frozen")).worth).toBe("crash");
			expect(await isWritable(bench.one)).toBe(true);
			expect(await told()).toEqual(["pre "]);
			expect(await readdir(join(host.runFolder, "freezes"))).toEqual([]);
			expect(await readdir(bench.one.mountPoint)).toEqual(["lost+found"]);
			const report = await takeSnapshot(host, [bench.one]);
			expect(report).toMatchObject({ achieved: "crash", held: "crash", because: ["freeze-disabled"] });
			expect(report.error).toBeUndefined();
			expect(report.window).toBeUndefined();
			expect(report.fileSystems).toMatchObject([{ result: "pending", frozenUntilSnapshotEnded: false }]);
			expect(host.events.some(({ type }) => type === "freezing")).toBe(false);
			expect(await told()).toEqual(["pre ", "post "]);
			expect(await readdir(join(host.runFolder, "freezes"))).toEqual([]);
		});

		test("any failure of a script fails the job", async () => {
			await writeScript("pre", "exit 1");
			expect((await failingBeforeFreeze({ ...application, acceptLevel: "crash" })).error?.code).toBe("script-failed");
		});
	});

	test("a database of workload.conf that can't be asked lowers the level, whatever the scripts beside it would do", async () => {
		await writeConfig({ continueBackupOnFailure: false, fsFreezeEnabled: false });
		const text = "[workload]\nworkload_name = mysql\ncustomScriptEnabled = 1\n";
		await writeFile(join(folder, "workload.conf"), text, { mode: 0o600 });
		const report = await snapshot(application);
		expect(report).toMatchObject({ achieved: "file-system", because: ["script-failed"] });
		expect(report.scripts).toMatchObject([{ name: "azure-workload" }]);
		expect(await told()).toEqual([]);
	});

	describe("in folders of hooks", () => {
		const others = (): Partial<OtherScripts> => ({
			azureFolder: null,
			qemuHookFolders: [folder],
			hookDeadlineMs: 5_000,
		});
		const vmware = (): Partial<OtherScripts> => ({ azureFolder: null, vmwareHookFolders: [folder] });

		test("are called in order before, in reverse after, and prove as much as their exit status", async () => {
			await writeHook("10-b", "exit 0");
			await writeHook("20-a", "exit 0");
			await writeHook("30-old.bak", "exit 1");
			expect(await snapshot(application, others())).toMatchObject({ achieved: "application" });
			expect(await told()).toEqual(["10-b freeze", "20-a freeze", "20-a thaw", "10-b thaw"]);
			await writeHook("20-a", "exit 1");
			expect(await snapshot(application, others())).toMatchObject({ achieved: "file-system" });
		});

		test("a client that a hook leaves running holds until it is called again", async () => {
			const client = `sleep 60 & echo $! > ${folder}/client`;
			const alive = `kill -0 $(cat ${folder}/client) && kill $(cat ${folder}/client)`;
			await writeHook("db", `if [ $1 = freeze ]; then ${client}; else ${alive}; fi`);
			const report = await snapshot(application, others());
			expect(report.scripts.map(({ phase, error }) => [phase, error?.message])).toEqual([
				["pre", undefined],
				["post", undefined],
			]);
			expect(report).toMatchObject({ achieved: "application" });
		});

		test("VMware's hear thaw after a snapshot and freezeFail without one, and fail the job", async () => {
			await writeHook("one", "exit 0");
			expect(await snapshot(application, vmware())).toMatchObject({ achieved: "application" });
			const host = await start(application, vmware());
			await toFrozen(host);
			host.tell({ type: "release", jobId: host.jobId });
			await host.report();
			expect(await told()).toEqual(["one freeze", "one thaw", "one freeze", "one freezeFail"]);
			await writeFile(join(folder, "told"), "");
			for (const error of [undefined, { code: "snapshot-failed", message: "x" } as const]) {
				const silent = await start({ ...application, snapshot: "unknown" }, vmware());
				await toFrozen(silent);
				silent.tell({ type: "release", jobId: silent.jobId, ...(error && { error }) });
				expect((await silent.report()).held).toBe("application");
			}
			expect(await told()).toEqual(["one freeze", "one thaw", "one freeze", "one freezeFail"]);
			await writeHook("two", "exit 1");
			await writeFile(join(folder, "told"), "");
			expect((await failingBeforeFreeze(application, vmware())).error?.code).toBe("script-failed");
			expect(await told()).toEqual(["one freeze", "two freeze", "two freezeFail", "one freezeFail"]);
		});
	});

	test.skipIf(missingForAzure)("under Azure's agent a fault of a script is the health beside a success", async () => {
		const { one } = bench;
		const otherScripts = { ...noOtherScripts, azureFolder: folder };
		await using guest = await makeAzureGuest(bench.dir, [one], { otherScripts });
		await writeScript("pre", "exit 1");
		await writeConfig({});
		const lowered = await guest.run();
		expect(lowered).toMatchObject({ status: "success", code: 1 });
		expect(readTold(lowered)).toMatchObject({
			consistency: "fileSystemConsistent",
			inner: { code: 1, vmHealthInfo: { vmHealthState: 128, vmHealthStatusCode: 300 } },
		});
		await writeScript("pre", "exit 0");
		await writeScript("post", "exit 1");
		expect(readTold(await guest.run()).inner.vmHealthInfo).toEqual({ vmHealthState: 128, vmHealthStatusCode: 301 });
		await writeConfig({ timeoutInSeconds: "30" });
		expect(readTold(await guest.run())).toMatchObject({
			consistency: "fileSystemConsistent",
			inner: { vmHealthInfo: { vmHealthState: 128, vmHealthStatusCode: 305 } },
		});
		await writeConfig({ preScriptLocation: "/nowhere", continueBackupOnFailure: false });
		expect(await guest.run()).toMatchObject({ status: "error", code: 302 });
		await writeScript("post", "exit 0");
		await writeConfig({ fsFreezeEnabled: false });
		const crash = await guest.run();
		expect(crash).toMatchObject({ status: "success", code: 1 });
		expect(readTold(crash)).toMatchObject({
			consistency: "crashConsistent",
			report: { achieved: "crash", accepted: "crash", because: ["freeze-disabled"] },
			inner: { vmHealthInfo: { vmHealthState: 0, vmHealthStatusCode: 1 } },
		});
		await writeConfig({});
		expect(await guest.run()).toMatchObject({ status: "success", code: 0 });
		await writeFile(join(folder, "workload.conf"), "[workload]\nworkload_name = mysql\ncredString = /nowhere\n");
		const unheld = await guest.run();
		expect(unheld).toMatchObject({ status: "success", code: 1 });
		expect(readTold(unheld)).toMatchObject({
			report: { because: ["script-failed"], scripts: [{ name: "mysql", source: "azure-workload" }] },
			inner: { vmHealthInfo: { vmHealthState: 128, vmHealthStatusCode: 500 } },
		});
	});

	function start(
		changes: Partial<OrderInput>,
		others: Partial<OtherScripts> = { azureFolder: folder },
	): Promise<TestHost> {
		const request = { scriptsFolder: join(folder, "none"), otherScripts: { ...noOtherScripts, ...others } };
		return bench.start([bench.one], changes, { request });
	}

	async function snapshot(changes: Partial<OrderInput>, others?: Partial<OtherScripts>): Promise<Report> {
		const host = await start(changes, others);
		await toFrozen(host);
		return await takeSnapshot(host, [bench.one]);
	}

	async function failingBeforeFreeze(changes: Partial<OrderInput>, others?: Partial<OtherScripts>): Promise<Report> {
		const host = await start(changes, others);
		await host.event("prepared");
		host.tell({ type: "freeze", jobId: host.jobId });
		const report = await host.report();
		expect(host.events.some(({ type }) => type === "frozen")).toBe(false);
		return report;
	}

	async function writeConfig(change: Record<string, unknown>): Promise<void> {
		for (const name of ["pre", "post"]) await writeScript(name, "exit 0", 0o700, "wx").catch(() => undefined);
		const locations = { preScriptLocation: join(folder, "pre"), postScriptLocation: join(folder, "post") };
		const content = { pluginName: "ScriptRunner", timeoutInSeconds: 20, ...locations, ...change };
		await writeFile(configPath, JSON.stringify(content), { mode: 0o600 });
	}

	/** Tells its parameters, then goes on with `text`; by sh, which knows no `[[`, it fails. */
	async function writeScript(name: string, text: string, mode = 0o700, flag = "w"): Promise<void> {
		const body = `#!/bin/bash\n[[ -n $BASH ]] || exit 9\nIFS='|'; echo "${name} $*" >> ${folder}/told\n${text}\n`;
		await writeFile(join(folder, name), body, { mode, flag });
	}

	async function writeHook(name: string, text: string): Promise<void> {
		await writeFile(join(folder, name), `#!/bin/sh\necho "${name} $1" >> ${folder}/told\n${text}\n`, { mode: 0o755 });
	}

	/** What scripts were called with, in order. */
	async function told(): Promise<string[]> {
		const text = await readFile(join(folder, "told"), "utf8").catch(() => "");
		return text.split("\n").slice(0, -1);
	}
});

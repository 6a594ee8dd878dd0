import { chmodSync, existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "vitest";
import { eventually, type HandlerBench, makeHandlerBench } from "../fixtures/handler-bench.ts";
import { requireTools } from "../fixtures/required-tools.ts";

const missing = requireTools("root", "unshare", "mount", "openssl");
const name = "Acme.Late";

/** Its `enable` accepts a job that says nothing before its end; its work of a number is done once. */
const script = `#!/bin/sh
cd "$(dirname "$0")"
f=/var/lib/waagent/history
echo "$1 \${ConfigExtensionName:-} $ConfigSequenceNumber" >> $f
[ "$1" = install ] && [ -e fails-at-install ] && exit 9
[ "$1" = disable ] && [ -e slow-disable ] && sleep 2
[ "$1" = enable ] || exit 0
n=\${ConfigExtensionName:+$ConfigExtensionName.}
[ "$(cat \${n}mrseq 2>/dev/null)" = "$ConfigSequenceNumber" ] && exit 0
echo "$ConfigSequenceNumber" > \${n}mrseq
setsid sh -c "sleep 1; echo '[{\\"status\\":{\\"status\\":\\"success\\",\\"code\\":0}}]' > status/$n$ConfigSequenceNumber.status" &
exit 0
`;

describe.skipIf(missing)(`drop-ins that change${missing ? `: ${missing}` : ""}`, () => {
	function add(bench: HandlerBench, version = "1.0", ...files: string[]): string {
		const folder = bench.addPackage("shell-handler", (manifest) => {
			manifest.name = name;
			manifest.version = version;
			const all = ["install", "uninstall", "update", "enable", "disable"];
			const commands = all.map((word) => [`${word}Command`, `./handler.sh ${word}`]);
			manifest.handlerManifest = { ...Object.fromEntries(commands), supportsMultipleExtensions: true };
		});
		writeFileSync(join(folder, "handler.sh"), script);
		chmodSync(join(folder, "handler.sh"), 0o755);
		for (const file of files) writeFileSync(join(folder, file), "");
		return folder;
	}
	const history = (bench: HandlerBench) => bench.viewLines(name, "history");

	test.concurrent("one that was skipped is enabled when its cause is gone; the host's error is no status of its job", async ({
		expect,
	}) => {
		await using bench = makeHandlerBench();
		add(bench);
		bench.want(name, { sequenceNumber: 1 });
		await bench.start();
		await bench.until(name, (one) => one.status === "success");
		// Of number 2 nothing is done yet; of number 1 all is, and the handler will say nothing more about it.
		for (const sequenceNumber of [2, 1]) {
			bench.want(name, { sequenceNumber, dependsOn: ["Nobody.There"] });
			await bench.apply();
			await bench.until(name, (one) => one.sequenceNumber === sequenceNumber && one.status === "error");
			bench.want(name, { sequenceNumber });
			await bench.apply();
			const one = await bench.until(name, (found) => found.state === "Enabled" && found.status === "success");
			expect(one.sequenceNumber).toBe(sequenceNumber);
			expect(one.error).toBeUndefined();
		}
	});

	test.concurrent("status flows while a command of another handler runs on", async ({ expect }) => {
		await using bench = makeHandlerBench();
		add(bench);
		bench.want(name, { sequenceNumber: 1 });
		const slow = bench.addPackage("shell-handler", (manifest) => {
			Object.assign(manifest, { name: "Acme.Slow", version: "9.0" });
			manifest.handlerManifest["enableCommand"] = "./slow.sh";
		});
		writeFileSync(join(slow, "slow.sh"), "#!/bin/sh\ntouch begun\nuntil [ -e go ]; do sleep 0.1; done\n", {
			mode: 0o755,
		});
		await bench.start();
		const begun = bench.installedPath("Acme.Slow-9.0", "begun");
		await eventually(() => existsSync(begun), Boolean);
		await bench.until(name, (one) => one.status === "success");
		expect((await bench.list()).find((one) => one.name === "Acme.Slow")?.state).not.toBe("Enabled");
		writeFileSync(bench.installedPath("Acme.Slow-9.0", "go"), "");
		await bench.until("Acme.Slow", (one) => one.state === "Enabled");
	});

	test.concurrent("instances that are named no more are disabled before the handler is uninstalled", async ({
		expect,
	}) => {
		await using bench = makeHandlerBench();
		add(bench);
		bench.want(name, { instances: { web: { sequenceNumber: 4 }, db: {} } });
		await bench.start();
		for (const id of ["web", "db"]) await bench.until(`${name}/${id}`, (one) => one.status === "success");
		bench.want(name, { state: "disabled" });
		await bench.apply();
		await eventually(
			() =>
				history(bench)
					.filter((line) => line.startsWith("disable"))
					.sort(),
			(lines) => lines.length >= 2 && lines.includes("disable web 4") && lines.includes("disable db 0"),
		);
		expect(history(bench).filter((line) => line.startsWith("disable") && / (web|db) /.test(line))).toHaveLength(2);
		bench.want(name, { state: "uninstalled" });
		await bench.apply();
		await bench.until(name, (one) => one.state === "Uninstalled");
		await eventually(
			() => existsSync(bench.installedPath(`${name}-1.0`, "")),
			(there) => !there,
		);
	});

	test.concurrent("a version whose install failed after the old one went is passed over by a later one", async ({
		expect,
	}) => {
		await using bench = makeHandlerBench();
		add(bench);
		bench.want(name, { sequenceNumber: 1 });
		await bench.start();
		await bench.until(name, (one) => one.status === "success");
		const broken = add(bench, "2.0", "fails-at-install");
		await bench.apply();
		await bench.until(name, (one) => one.state === "FailedUpgrade");
		rmSync(broken, { recursive: true });
		add(bench, "3.0");
		await bench.apply();
		const one = await bench.until(name, (found) => found.version === "3.0" && found.state === "Enabled");
		expect(one.error).toBeUndefined();
		expect(existsSync(bench.installedPath(`${name}-2.0`, ""))).toBe(false);
		expect(readFileSync(bench.installedPath(`${name}-3.0`, "mrseq"), "utf8").trim()).toBe("1");
	});

	test.concurrent("two applies at once, one while a command runs: each command is run by itself, the last word counts", async ({
		expect,
	}) => {
		await using bench = makeHandlerBench();
		add(bench);
		bench.want(name, { sequenceNumber: 1 });
		await bench.start();
		const client = await bench.client();
		for (let number = 2; number < 6; number += 1) {
			bench.want(name, { sequenceNumber: number });
			await Promise.all([client.call("extensions.apply", {}), client.call("extensions.apply", {})]);
		}
		bench.want(name, { sequenceNumber: 3 });
		await bench.apply();
		await bench.until(name, (one) => one.sequenceNumber === 3 && one.status === "success" && one.state === "Enabled");
		expect(history(bench).at(-1)).toBe("enable  3");
		expect(history(bench).filter((line) => line.startsWith("install"))).toHaveLength(1);
	});

	test.concurrent("an agent killed during a disable takes it up; it is not run again, and what follows from it is done", async ({
		expect,
	}) => {
		await using bench = makeHandlerBench();
		add(bench, "1.0", "slow-disable");
		bench.want(name, { sequenceNumber: 1 });
		await bench.start();
		await bench.until(name, (one) => one.status === "success");
		bench.want(name, { sequenceNumber: 1, state: "disabled" });
		await bench.apply();
		const disables = () => history(bench).filter((line) => line === "disable  1").length;
		await eventually(disables, (count) => count === 1);
		await bench.restart("SIGKILL");
		const handlerState = () => readFileSync(bench.installedPath(`${name}-1.0`, "config/HandlerState"), "utf8");
		await eventually(handlerState, (text) => text === "Installed");
		expect(disables()).toBe(1);
		expect((await bench.until(name, (one) => one.state === "Disabled")).error).toBeUndefined();
	});
});

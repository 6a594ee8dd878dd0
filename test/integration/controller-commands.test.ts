import { once } from "node:events";
import { chmod, copyFile, readdir, readFile, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { connect } from "node:tls";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { runCommandLine } from "../../command-line/run-command-line.ts";
import {
	addFakeAgent,
	type ControllerRun,
	makeImage,
	makeTestFolder,
	startController,
} from "../fixtures/controller-run.ts";
import { poll } from "../fixtures/poll.ts";

let folder: Awaited<ReturnType<typeof makeTestFolder>>;
let controller: ControllerRun;
const stateDir = () => join(folder.path, "state");

beforeAll(async () => {
	folder = await makeTestFolder();
	controller = await startController(stateDir());
});
afterAll(async () => {
	await controller[Symbol.asyncDispose]();
	await folder[Symbol.asyncDispose]();
});

/** `stillpoint controller ...`, with all that it prints. */
async function run(
	words: readonly string[],
	stopping = new AbortController().signal,
	out = { stdout: "", stderr: "" },
) {
	const status = await runCommandLine(["controller", ...words], {
		environment: {},
		stopping,
		signalled: () => undefined,
		isTerminal: false,
		stdout: (text) => {
			out.stdout += text;
		},
		stderr: (text) => {
			out.stderr += text;
		},
	});
	return { status, ...out };
}
const here = () => ["--state-dir", stateDir()];
const from = (name: string) => ["--controller", controller.info.url, "--credentials", join(folder.path, name)];
const add = (name: string, role: string) =>
	run(["credentials", "add", name, "--role", role, "--out", join(folder.path, name), ...here()]);

describe("a credential for another host", () => {
	test("lies in a folder of its own, is used with every command, and is refused once revoked", async () => {
		expect((await add("vera", "viewer")).status).toBe(0);
		const files = await readdir(join(folder.path, "vera"));
		expect(files.sort()).toEqual(["ca.pem", "cert.pem", "key.pem"]);
		expect((await stat(join(folder.path, "vera"))).mode & 0o777).toBe(0o700);
		for (const name of files) expect((await stat(join(folder.path, "vera", name))).mode & 0o777).toBe(0o600);
		const key = await readFile(join(folder.path, "vera", "key.pem"), "utf8");
		const audit = await run(["audit", "--json", ...from("vera")]);
		expect(JSON.parse(audit.stdout).entries[0]).toMatchObject({
			action: "credential.issue",
			target: "vera",
			outcome: "ok",
		});
		expect(audit.stdout).not.toContain(key.split("\n")[1]);
		expect((await run(["agents", ...from("vera")])).status).toBe(0);
		const denied = await run(["token", ...from("vera")]);
		expect([denied.status, denied.stderr]).toEqual([5, expect.stringContaining("not-allowed")]);
		expect((await run(["audit", "--actor", "vera", ...here()])).stdout).toMatch(
			/vera \(viewer\).*token\.create.*not-allowed/,
		);
		expect((await run(["credentials", "revoke", "vera", ...here()])).stdout).toMatch(/vera.*revoked/);
		expect((await run(["agents", ...from("vera")])).stderr).toContain("certificate-revoked");
		expect((await run(["credentials", ...here()])).stdout).toMatch(/operator +operator.*good\n/);
	});

	test("is not used when others can read its key, or when it is damaged or of two halves", async () => {
		expect((await add("kim", "viewer")).status).toBe(0);
		expect((await add("lee", "viewer")).status).toBe(0);
		const key = join(folder.path, "kim", "key.pem");
		const agents = async () => {
			const { status, stderr } = await run(["agents", ...from("kim")]);
			return [status, /stillpoint: ([a-z-]+):/.exec(stderr)?.[1]];
		};
		expect(await agents()).toEqual([0, undefined]);
		await chmod(key, 0o640);
		expect(await agents()).toEqual([78, "state-unusable"]);
		await chmod(key, 0o600);
		await copyFile(join(folder.path, "lee", "key.pem"), key);
		expect(await agents()).toEqual([2, "usage-invalid"]);
		await writeFile(key, "no key");
		expect(await agents()).toEqual([2, "usage-invalid"]);
	});

	test("events of a controller that was never there end at once", async () => {
		expect((await add("ana", "viewer")).status).toBe(0);
		const words = ["events", "--controller", "https://127.0.0.1:1", "--credentials", join(folder.path, "ana")];
		const { status, stderr } = await run(words);
		expect([status, stderr]).toEqual([4, expect.stringContaining("controller-unreachable")]);
	}, 30_000);

	test("is not made over something that is there, and a refusal leaves no folder", async () => {
		const there = await run(["credentials", "add", "x", "--out", folder.path, ...here()]);
		expect([there.status, there.stderr]).toEqual([2, expect.stringContaining("is there already")]);
		expect((await add("operator", "viewer")).stderr).toContain("name-taken");
		await expect(stat(join(folder.path, "operator"))).rejects.toMatchObject({ code: "ENOENT" });
	});

	test.each([
		[["--controller", "https://127.0.0.1:1"], "belong together"],
		[["--credentials", "/nowhere"], "belong together"],
		[["--controller", "http://x", "--credentials", "/nowhere"], "https"],
		[["--controller", "https://127.0.0.1:1", "--credentials", "/nowhere"], "holds no credential"],
	])("agents %j is a usage error", async (words, text) => {
		const { status, stderr } = await run(["agents", ...words]);
		expect([status, stderr]).toEqual([2, expect.stringContaining(text)]);
	});
});

test("the controller's certificate carries the names that --name gives, and no others", async () => {
	const stop = new AbortController();
	const out = { stdout: "", stderr: "" };
	const state = join(folder.path, "named");
	const words = ["run", "--state-dir", state, "--port", "0", "--name", "backup-1", "--name", "192.0.2.7", "--json"];
	const running = run(words, stop.signal, out);
	await poll(() => out.stdout).toContain("caFingerprint");
	const { port } = JSON.parse(out.stdout);
	const ca = await readFile(join(state, "ca", "cert.pem"), "utf8");
	const socket = connect({ port, host: "127.0.0.1", ca, servername: "backup-1" });
	await once(socket, "secureConnect");
	expect(socket.authorized).toBe(true);
	const names = socket.getPeerCertificate().subjectaltname;
	socket.destroy();
	expect(names).toMatch(/DNS:backup-1, IP Address:192\.0\.2\.7/);
	const other = connect({ port, host: "127.0.0.1", ca, servername: "backup-2" });
	const [error] = await once(other, "error");
	expect(error.code).toBe("ERR_TLS_CERT_ALTNAME_INVALID");
	stop.abort();
	expect((await running).status).toBe(0);
});

describe("what happens", () => {
	test("snapshot --follow and events tell of it; agents are revoked and removed", async () => {
		const image = await makeImage(join(folder.path, "a.img"), 1024 * 1024, [{ offset: 0, length: 4096 }]);
		await using agent = await addFakeAgent(controller, { vda: image });
		const stop = new AbortController();
		const out = { stdout: "", stderr: "" };
		const watching = run(["events", "--json", ...here()], stop.signal, out);
		await poll(() => out.stdout).toContain('"type":"state"');
		const done = await run(["snapshot", agent.agentId, "--level", "file-system", "--follow", ...here()]);
		expect([done.status, done.stderr]).toEqual([0, expect.stringContaining("done\n")]);
		await poll(() => out.stdout).toContain('"state":"done"');
		const shown = await run(["agents", "show", agent.agentId, ...here()]);
		expect(shown.stdout).toMatch(/^Agent \S+\n {2}host +fake\n[\s\S]* {2}link +connected\n {2}vda +\/\S+a\.img\n$/);
		const { recoveryPoints } = JSON.parse((await run(["recovery-points", "--json", ...here()])).stdout);
		const point = await run(["recovery-points", recoveryPoints[0].id, ...here()]);
		expect(point.stdout).toMatch(
			/^Recovery point \S+\n {2}level file-system, of fake[\s\S]*\nvda +\S+ +1\.0 MiB[\s\S]*\nJob /,
		);
		const followed = await run(["jobs", recoveryPoints[0].jobId, "--follow", ...here()]);
		expect([followed.stdout, followed.stderr]).toEqual([
			expect.stringMatching(/^Job \S+ of agent \S+: done/),
			"done\n",
		]);
		expect((await run(["agents", "revoke", agent.agentId, "--reason", "stolen", ...here()])).stdout).toContain(
			"revoked",
		);
		await poll(() => out.stdout).toContain('"connected":false');
		expect((await run(["snapshot", agent.agentId, ...here()])).stderr).toContain("agent-offline");
		expect((await run(["agents", "remove", agent.agentId, ...here()])).status).toBe(0);
		expect((await run(["enrolment-requests", ...here()])).stdout).toContain("reason");
		stop.abort();
		expect((await watching).status).toBe(0);
		const lines = out.stdout.trim().split("\n");
		expect(lines.map((line) => JSON.parse(line).schemaVersion)).toEqual(lines.map(() => 1));
	});
});

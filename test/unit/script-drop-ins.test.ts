import { mkdir, mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { StillpointError } from "../../contracts/errors.ts";
import { noOtherScripts } from "../../contracts/other-scripts.ts";
import { readApplications } from "../../extensions/vm-snapshot-linux/script-runner/read-applications.ts";
import { parseDropIn, readDropIns } from "../../extensions/vm-snapshot-linux/script-runner/sources/read-drop-ins.ts";

const good = { version: 1, application: "shop", pre: { command: ["/bin/true"] } };
const session = { version: 1, application: "shop", session: { command: ["/bin/true"] } };

describe("a drop-in file", () => {
	test.each([
		["pre alone", good],
		["post alone", { version: 1, application: "shop", post: { command: ["/bin/true"] } }],
		["a session", session],
		[
			"all fields",
			{ ...good, order: 0, enabled: false, onFailure: "continue", post: { command: ["/x"], deadlineMs: 100 } },
		],
	])("%s is understood", (_what, content) => {
		expect(parseDropIn(content, "/x.json").application).toBe("shop");
	});

	test.each([
		["null", null, ""],
		["a list", [], ""],
		["a text", "shop", ""],
		["nothing", {}, "version"],
		["another version", { ...good, version: 2 }, "version"],
		["no application", { version: 1, pre: good.pre }, "application"],
		["an empty application", { ...good, application: "" }, "application"],
		["a very long application", { ...good, application: "x".repeat(65) }, "application"],
		["an unknown field", { ...good, user: "www" }, "user"],
		["a field that is nearly known", { ...good, onFail: "continue" }, 'unknown key "onFail", did you mean onFailure?'],
		["one in a step", { ...good, pre: { command: ["/x"], deadlinems: 9 } }, "did you mean deadlineMs?"],
		["an unknown field in a step", { ...good, pre: { command: ["/x"], shell: true } }, "pre"],
		["a relative program", { ...good, pre: { command: ["stop-shop"] } }, "pre.command"],
		["no program", { ...good, pre: { command: [] } }, "pre.command"],
		["a command line instead of words", { ...good, pre: { command: "/bin/true now" } }, "pre.command"],
		["words that are no text", { ...good, pre: { command: ["/bin/true", 3] } }, "pre.command.1"],
		["a deadline of nothing", { ...good, pre: { command: ["/x"], deadlineMs: 0 } }, "pre.deadlineMs"],
		["a deadline of days", { ...good, pre: { command: ["/x"], deadlineMs: 99_000_000 } }, "pre.deadlineMs"],
		["a deadline as text", { ...good, pre: { command: ["/x"], deadlineMs: "5s" } }, "pre.deadlineMs"],
		["a negative order", { ...good, order: -1 }, "order"],
		["an order with a fraction", { ...good, order: 1.5 }, "order"],
		["another word for onFailure", { ...good, onFailure: "ignore" }, "onFailure"],
		["enabled as text", { ...good, enabled: "yes" }, "enabled"],
		["session and pre", { ...good, ...session }, "either session or pre"],
		["no step at all", { version: 1, application: "shop" }, "one of session, pre, post"],
	])("%s is refused, naming file and field", (_what, content, field) => {
		try {
			parseDropIn(content, "/etc/x.json");
		} catch (error) {
			expect(error).toBeInstanceOf(StillpointError);
			expect(error).toMatchObject({ code: "script-config-invalid" });
			expect((error as Error).message).toContain("/etc/x.json");
			expect((error as Error).message).toContain(field);
			return;
		}
		throw new Error("was accepted");
	});
});

describe("a folder of drop-in files", () => {
	let folder: string;
	const trusted = () => Promise.resolve();

	beforeEach(async () => {
		folder = await mkdtemp(join(tmpdir(), "stillpoint-drop-ins-"));
	});
	afterEach(async () => {
		await rm(folder, { recursive: true });
	});

	test("that does not exist holds none", async () => {
		expect(await readDropIns(join(folder, "none"), trusted)).toEqual({ scripts: [], bad: [] });
	});

	test("is read by order, then name; other files, hidden and disabled ones are left out", async () => {
		await write("b", { ...good, order: 100 });
		await write("a", { ...good, order: 500 });
		await write("c", { ...good, order: 100 });
		await write("off", { ...good, enabled: false });
		await write(".hidden", { nonsense: true });
		await writeFile(join(folder, "README.md"), "nonsense");
		const { applications, bad } = await readApplications(
			{ scriptsFolder: folder, otherScripts: noOtherScripts },
			trusted,
		);
		expect(applications.map((one) => one.name)).toEqual(["b", "c", "a"]);
		expect(bad).toEqual([]);
	});

	test("keeps the good ones beside a bad one, which says how much it matters", async () => {
		await write("good", good);
		await write("bad", { ...good, order: "first" });
		await write("lenient", { ...good, onFailure: "continue", order: "first" });
		await writeFile(join(folder, "broken.json"), '{"version": 1, "onFailure": "continue"');
		const { scripts, bad } = await readDropIns(folder, trusted);
		expect(scripts.map((one) => one.name)).toEqual(["good"]);
		expect(bad.map((one) => [one.name, one.onFailure, one.error.code])).toEqual([
			["bad", "fail", "script-config-invalid"],
			["broken", "fail", "script-config-invalid"],
			["lenient", "continue", "script-config-invalid"],
		]);
	});

	test("a file that is too large, a folder, and a link to nowhere are bad", async () => {
		await write("large", { ...good, application: "x".repeat(70_000) });
		await mkdir(join(folder, "folder.json"));
		await symlink("/nowhere", join(folder, "link.json"));
		const { bad } = await readDropIns(folder, trusted);
		expect(bad.map((one) => [one.name, one.error.code])).toEqual([
			["folder", "script-config-invalid"],
			["large", "script-config-invalid"],
			["link", "script-config-invalid"],
		]);
	});

	test("that others could change is refused, and a file that others could change is bad", async () => {
		await write("a", good);
		const refuse = (what: string) => (path: string) =>
			path === what ? Promise.reject(new StillpointError("script-untrusted", path)) : Promise.resolve();
		await expect(readDropIns(folder, refuse(folder))).rejects.toMatchObject({ code: "script-untrusted" });
		const { scripts, bad } = await readDropIns(folder, refuse(join(folder, "a.json")));
		expect(scripts).toEqual([]);
		expect(bad).toMatchObject([{ name: "a", error: { code: "script-untrusted" } }]);
	});

	async function write(name: string, content: unknown): Promise<void> {
		await writeFile(join(folder, `${name}.json`), JSON.stringify(content));
	}
});

import { execFileSync } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, truncateSync, utimesSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { blankProtectedSettings } from "../../extensions/kit/blank-protected-settings.ts";
import { findHandlerSettings, readHandlerSettings } from "../../extensions/kit/handler-settings.ts";
import { encryptByOpenssl, type MadeKey, makeKey } from "../fixtures/openssl-keys.ts";
import { requireTools } from "../fixtures/required-tools.ts";

const lacking = requireTools("openssl");
const secret = "correct horse battery staple";
const secrets = JSON.stringify({ password: secret, nested: { many: "x".repeat(20_000) } });

describe.skipIf(lacking)(`settings of a handler${lacking ? ` (${lacking})` : ""}`, () => {
	let root: string;
	let ours: MadeKey;
	let theirs: MadeKey;
	let encrypted: string;
	let packageFolder: string;
	let config: string;
	let made = 0;

	beforeAll(() => {
		root = mkdtempSync(join(tmpdir(), "stillpoint-settings-"));
		ours = makeKey(root);
		theirs = makeKey(root);
		encrypted = encryptByOpenssl(secrets, ["cms", "-aes-256-cbc", ours.certificate], root);
	});
	afterAll(() => rmSync(root, { recursive: true, force: true }));
	beforeEach(() => {
		packageFolder = join(root, `Example-1.${made++}`);
		config = join(packageFolder, "config");
		mkdirSync(config, { recursive: true });
		const folders = { logFolder: config, statusFolder: config, configFolder: config, heartbeatFile: "/x" };
		const environment = [{ name: "Example", version: "1.0", handlerEnvironment: folders, extra: true }];
		writeFileSync(join(packageFolder, "HandlerEnvironment.json"), JSON.stringify(environment));
	});

	function settings(handlerSettings: unknown): string {
		return JSON.stringify({ runtimeSettings: [{ handlerSettings }] });
	}

	function put(name: string, handlerSettings: unknown): void {
		writeFileSync(join(config, name), settings(handlerSettings));
	}

	function sealed(by: Partial<{ protectedSettings: string; thumbprint: string }> = {}) {
		return {
			publicSettings: { a: 1 },
			protectedSettings: by.protectedSettings ?? encrypted,
			protectedSettingsCertThumbprint: by.thumbprint ?? ours.thumbprint,
		};
	}

	/** The whole error, with all that hangs on it, as a log may write it. */
	async function refusal(which = {}): Promise<string> {
		try {
			await readHandlerSettings(packageFolder, { sequenceNumber: 1, patienceMs: 0, ...which });
		} catch (error) {
			expect(error).toMatchObject({ code: "settings-invalid" });
			const whole = JSON.stringify(error) + String((error as Error).stack) + String((error as Error).cause);
			expect(whole).not.toContain("horse");
			expect(whole).not.toContain("PRIVATE");
			return (error as Error).message;
		}
		throw new Error("it was read");
	}

	describe("what is wrong is named by file and field", () => {
		const sealedNow = (by: Parameters<typeof sealed>[0] = {}) => settings(sealed(by));
		test.each<[string, () => string | Buffer, RegExp]>([
			["a truncated file", () => sealedNow().slice(0, 300), /1\.settings: is no JSON/],
			["an empty file of a later sequence number", () => "", /1\.settings: is no JSON/],
			["a binary file", () => Buffer.from([0x7b, 0xff, 0xfe, 0]), /1\.settings: is not UTF-8/],
			["no runtimeSettings", () => "{}", /1\.settings: runtimeSettings/],
			["two runtimeSettings", () => '{"runtimeSettings":[{},{}]}', /runtimeSettings/],
			["public settings that are a number", () => settings({ publicSettings: 7 }), /publicSettings/],
			["public settings that are a list", () => settings({ publicSettings: "[]" }), /publicSettings is no JSON object/],
			["public settings of broken text", () => settings({ publicSettings: "{'a'" }), /publicSettings is a text/],
			["no thumbprint", () => settings({ protectedSettings: encrypted }), /CertThumbprint is no SHA-1/],
			["a thumbprint that is a path", () => sealedNow({ thumbprint: "../../../etc/passwd" }), /CertThumbprint is no/],
			["a thumbprint without key", () => sealedNow({ thumbprint: "A".repeat(40) }), /no key A{40}\.prv/],
			["another's key", () => sealedNow({ thumbprint: theirs.thumbprint }), /for another certificate/],
			["no base64", () => sealedNow({ protectedSettings: "§§" }), /protectedSettings is no base64/],
			[
				"long runs of blanks and a letter that is none",
				() => sealedNow({ protectedSettings: `TUlJ${" ".repeat(400_000)}§` }),
				/protectedSettings is no base64/,
			],
			["base64 of no CMS", () => sealedNow({ protectedSettings: btoa(secret) }), /protectedSettings it is no CMS/],
			["plain text in its place", () => sealedNow({ protectedSettings: secrets }), /is no base64/],
			["half of a CMS", () => sealedNow({ protectedSettings: encrypted.slice(0, 800) }), /protectedSettings/],
		])("%s", async (_what, content, says) => {
			writeFileSync(join(config, "1.settings"), content());
			expect(await refusal()).toMatch(says);
		});

		test("a changed CMS, wherever the byte lies", async () => {
			const bytes = Buffer.from(encrypted, "base64");
			for (let at = 1; at < bytes.length; at += Math.ceil(bytes.length / 60)) {
				const changed = Buffer.from(bytes);
				changed[at] = (changed[at] ?? 0) ^ 0x41;
				put("1.settings", sealed({ protectedSettings: changed.toString("base64") }));
				const read = await readHandlerSettings(packageFolder, { sequenceNumber: 1, patienceMs: 0 }).catch(
					() => undefined,
				);
				// CMS carries no seal: a byte in the middle of a text may pass; nothing else may.
				if (read !== undefined) expect(Object.keys(read.protectedSettings)).toContain("nested");
				else expect(await refusal()).toContain("protectedSettings");
			}
		});

		test("a wrong key under the right name", async () => {
			const keyFolder = join(config, "keys");
			mkdirSync(keyFolder);
			cpSync(ours.certificate, join(keyFolder, `${ours.thumbprint}.crt`));
			cpSync(theirs.key, join(keyFolder, `${ours.thumbprint}.prv`));
			put("1.settings", sealed());
			expect(await refusal({ keyFolder })).toMatch(/the key (does|may) not fit/);
			writeFileSync(join(keyFolder, `${ours.thumbprint}.prv`), "-----BEGIN PRIVATE KEY-----\nAAAA\n");
			expect(await refusal({ keyFolder })).toMatch(/\.prv is no PEM/);
		});

		test("a decrypted text that is no JSON is not quoted", async () => {
			const protectedSettings = encryptByOpenssl(`not json: ${secret}`, ["cms", ours.certificate], root);
			put("1.settings", sealed({ protectedSettings }));
			expect(await refusal()).toMatch(/is no JSON object/);
		});

		test("a FIFO, a folder and a terabyte are refused and not waited for", async () => {
			const path = join(config, "1.settings");
			execFileSync("mkfifo", [path]);
			expect(await refusal()).toMatch(/is not a regular file/);
			rmSync(path);
			mkdirSync(path);
			expect(await refusal()).toMatch(/is not a regular file|EISDIR/);
			rmSync(path, { recursive: true });
			writeFileSync(path, "{}");
			truncateSync(path, 2 ** 40);
			expect(await refusal()).toMatch(/is larger than/);
		});

		test.each(["../1", "a/b", "..", "", ".hidden/../../x", "a\0b", "x".repeat(200)])(
			"the extension name %j leads out of no folder",
			async (extensionName) => {
				writeFileSync(join(packageFolder, "1.settings"), settings({ publicSettings: {} }));
				expect(await refusal({ extensionName })).toMatch(/no name for a file|there is no/);
			},
		);

		test("there being none", async () => {
			expect(await refusal()).toContain("there is no 1.settings");
			expect(await findHandlerSettings(packageFolder)).toBeUndefined();
		});
	});

	describe("are read", () => {
		test.each([
			["cms, AES-256", ["cms", "-aes-256-cbc"]],
			["cms, AES-192", ["cms", "-aes-192-cbc"]],
			["cms, AES-128", ["cms", "-aes-128-cbc"]],
			["cms, triple DES, its default", ["cms", "-des3"]],
			["cms in pieces of unknown length", ["cms", "-stream", "-indef", "-aes-256-cbc"]],
			["cms with a key identifier", ["cms", "-keyid", "-aes-256-cbc"]],
			["smime, Azure's older agents'", ["smime", "-aes-256-cbc"]],
			["smime, triple DES", ["smime", "-des3"]],
		])("when encrypted by openssl %s", async (_what, words) => {
			put("1.settings", sealed({ protectedSettings: encryptByOpenssl(secrets, [...words, ours.certificate], root) }));
			const read = await readHandlerSettings(packageFolder, { sequenceNumber: 1 });
			expect(read.protectedSettings["password"]).toBe(secret);
			expect(read.publicSettings).toEqual({ a: 1 });
		});

		test.each(["sha1", "sha256", "sha512"])("when the key is encrypted by OAEP with %s", async (hash) => {
			const options = ["-keyopt", "rsa_padding_mode:oaep", "-keyopt", `rsa_oaep_md:${hash}`];
			const words = ["cms", "-aes-256-cbc", "-recip", ours.certificate, ...options];
			put("1.settings", sealed({ protectedSettings: encryptByOpenssl(secrets, words, root) }));
			const read = await readHandlerSettings(packageFolder, { sequenceNumber: 1 });
			expect(read.protectedSettings["password"]).toBe(secret);
		});

		test("when one of several recipients is ours, also without a certificate that says which", async () => {
			const words = ["cms", "-aes-256-cbc", theirs.certificate, ours.certificate];
			put("1.settings", sealed({ protectedSettings: encryptByOpenssl(secrets, words, root) }));
			const keyFolder = join(config, "keys");
			mkdirSync(keyFolder);
			cpSync(ours.key, join(keyFolder, `${ours.thumbprint}.prv`));
			for (const which of [{}, { keyFolder }])
				expect((await readHandlerSettings(packageFolder, which)).protectedSettings["password"]).toBe(secret);
		});

		test("a thumbprint in small letters, base64 in lines, and fields that nobody knows are no fault", async () => {
			const lines = encrypted.replaceAll(/(.{64})/g, "$1\r\n");
			const fields = { ...sealed({ protectedSettings: lines, thumbprint: ours.thumbprint.toLowerCase() }), more: [1] };
			put("1.settings", { ...fields, publicSettings: '{"a": 2}' });
			const read = await readHandlerSettings(packageFolder);
			expect([read.publicSettings, read.protectedSettings["password"]]).toEqual([{ a: 2 }, secret]);
		});

		test("none, where a host says so by an empty 0.settings or by null", async () => {
			writeFileSync(join(config, "0.settings"), "");
			const none = { publicSettings: {}, protectedSettings: {}, sequenceNumber: 0 };
			expect(await readHandlerSettings(packageFolder, { patienceMs: 0 })).toMatchObject(none);
			put("0.settings", { publicSettings: null, protectedSettings: null, protectedSettingsCertThumbprint: null });
			expect(await readHandlerSettings(packageFolder)).toMatchObject(none);
		});

		test("of the file that was modified last when no number is given; of their own name for instances", async () => {
			for (const [name, seconds] of [
				["9.settings", 100],
				["3.settings", 200],
				["10.settings", 150],
				["web.4.settings", 300],
				["4.status", 400],
			] as const) {
				put(name, { publicSettings: { name } });
				utimesSync(join(config, name), seconds, seconds);
			}
			expect((await readHandlerSettings(packageFolder)).publicSettings).toEqual({ name: "3.settings" });
			const web = await readHandlerSettings(packageFolder, { extensionName: "web" });
			expect(web).toMatchObject({
				sequenceNumber: 4,
				extensionName: "web",
				publicSettings: { name: "web.4.settings" },
			});
		});

		test("a half-written file as soon as it is whole", async () => {
			const whole = settings({ publicSettings: { a: "b" } });
			writeFileSync(join(config, "1.settings"), whole.slice(0, 20));
			const reading = readHandlerSettings(packageFolder, { patienceMs: 20_000 });
			setTimeout(() => writeFileSync(join(config, "1.settings"), whole), 120);
			expect((await reading).publicSettings).toEqual({ a: "b" });
		});
	});

	describe("blanked", () => {
		test("hold no secret any more, and all else as it was", async () => {
			put("1.settings", { ...sealed(), more: { kept: true } });
			const path = join(config, "1.settings");
			await blankProtectedSettings(path);
			const [one] = JSON.parse(readFileSync(path, "utf8")).runtimeSettings;
			expect(one.handlerSettings).toEqual({
				publicSettings: { a: 1 },
				protectedSettings: "",
				protectedSettingsCertThumbprint: "",
				more: { kept: true },
			});
			expect((await readHandlerSettings(packageFolder)).protectedSettings).toEqual({});
		});

		test("a broken file is refused and left", async () => {
			const path = join(config, "1.settings");
			writeFileSync(path, '{"runtimeSettings"');
			await expect(blankProtectedSettings(path)).rejects.toMatchObject({ code: "settings-invalid" });
			expect(readFileSync(path, "utf8")).toBe('{"runtimeSettings"');
		});
	});
});

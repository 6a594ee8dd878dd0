import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { encryptByOpenssl, makeKey } from "../fixtures/openssl-keys.ts";
import { requireTools } from "../fixtures/required-tools.ts";

/** Memory, not a disk: targets write a file for each case. */
const parent = "/dev/shm";

const fileSystems = [
	["ext4", "mkfs.ext4", ["-q", "-b", "1024"], 16],
	["ext4-64", "mkfs.ext4", ["-q", "-O", "64bit,metadata_csum"], 16],
	["ext3", "mkfs.ext3", ["-q", "-b", "4096"], 16],
	["xfs", "mkfs.xfs", ["-q"], 320],
	["btrfs", "mkfs.btrfs", ["-q"], 128],
] as const;

export type Samples = Disposable & { readonly folder: string; readonly missing: readonly string[] };

/** What is real and is made by tools: file systems (`*.image`, sparse), keys and what they encrypt (`keys`). */
export function makeSamples(): Samples {
	const folder = mkdtempSync(join(parent, "stillpoint-fuzz-"));
	const missing: string[] = [];
	try {
		const keys = join(folder, "keys");
		mkdirSync(keys);
		const lacksOpenssl = requireTools("openssl");
		if (lacksOpenssl === undefined) {
			const { certificate } = makeKey(keys);
			const content = JSON.stringify({ objectStr: "secret", list: [1, 2, 3] });
			for (const [name, words] of Object.entries({
				"aes.cms": ["cms", "-aes256", certificate],
				"oaep.cms": ["cms", "-aes128", "-recip", certificate, "-keyopt", "rsa_padding_mode:oaep"],
			}))
				writeFileSync(join(keys, name), Buffer.from(encryptByOpenssl(content, words, keys), "base64"));
		} else missing.push(lacksOpenssl);
		for (const [name, tool, words, sizeMiB] of fileSystems) {
			const lacks = requireTools(tool);
			if (lacks !== undefined) missing.push(lacks);
			else makeFileSystem(join(folder, `${name}.image`), tool, words, sizeMiB);
		}
		return { folder, missing, [Symbol.dispose]: () => rmSync(folder, { recursive: true, force: true }) };
	} catch (error) {
		rmSync(folder, { recursive: true, force: true });
		throw error;
	}
}

function makeFileSystem(path: string, tool: string, words: readonly string[], sizeMiB: number): void {
	writeFileSync(path, "");
	truncateSync(path, sizeMiB * 1024 * 1024);
	const environment = { ...process.env, PATH: `${process.env["PATH"]}:/usr/sbin:/sbin` };
	const run = spawnSync(tool, [...words, path], { encoding: "utf8", env: environment });
	if (run.status !== 0) throw new Error(`${tool}: ${run.stderr}`);
}

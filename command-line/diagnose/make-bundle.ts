import { locateConfig } from "../../agent/load-config.ts";
import { asStillpointError } from "../../contracts/errors.ts";
import { within } from "../../platform/within.ts";
import { type BundlePart, type BundleSources, bundleParts } from "./bundle-parts.ts";
import { readKnownSecrets } from "./known-secrets.ts";
import { makeRedact, type Redact } from "./redact.ts";
import { type BundleEntry, packBundle, writeBundle } from "./write-bundle.ts";

export type MadeBundle = {
	readonly file: string;
	readonly sizeBytes: number;
	readonly entries: readonly {
		readonly name: string;
		readonly what: string;
		readonly sizeBytes: number;
		readonly error?: string;
	}[];
};

/** @throws `tool-missing`, `name-taken`, `state-unusable`; `internal` instead of a file with a known secret in it */
export async function makeBundle(
	sources: BundleSources,
	{ file, name, onStep }: { file: string; name: string; onStep(step: string): void },
): Promise<MadeBundle> {
	const { flags, folders, environment } = sources;
	const { configFile } = locateConfig({ flags, environment });
	const secrets = await readKnownSecrets({ stateDir: folders.stateDir, configFile, environment });
	const redact = makeRedact(secrets);
	const made: (BundleEntry & { what: string; error?: string })[] = [];
	for (const part of bundleParts(sources)) {
		onStep(part.what);
		made.push(await makeEntry(part, redact, sources.signal));
	}
	const readme = { name: "README.txt", what: "what stands here", text: readmeText(made) };
	const packed = await packBundle(name, [readme, ...made]);
	const sizeBytes = await writeBundle(file, packed, secrets);
	const entries = [readme, ...made].map(({ text, ...one }) => {
		const { name: entry, what, error } = one as typeof one & { error?: string };
		return { name: entry, what, sizeBytes: Buffer.byteLength(text), ...(error === undefined ? {} : { error }) };
	});
	return { file, sizeBytes, entries };
}

async function makeEntry({ name, what, limitMs, read }: BundlePart, redact: Redact, signal: AbortSignal) {
	try {
		const content = await within(read(), limitMs, what, signal);
		// Line by line: a key that begins in one line of a log must not take the rest of the log with it.
		if (typeof content === "string")
			return {
				name,
				what,
				text: name.endsWith(".log") ? content.split("\n").map(redact.text).join("\n") : redact.text(content),
			};
		return {
			name,
			what,
			text: `${JSON.stringify(redact.value(JSON.parse(JSON.stringify(content))), undefined, "\t")}\n`,
		};
	} catch (thrown) {
		signal.throwIfAborted();
		const { code, message } = asStillpointError(thrown);
		const error = redact.text(code === "internal" ? message : `${code}: ${message}`);
		return { name, what, text: name.endsWith(".json") ? `${JSON.stringify({ error })}\n` : `${error}\n`, error };
	}
}

function readmeText(parts: readonly { name: string; what: string }[]): string {
	return `What \`stillpoint diagnose\` gathered on this machine. Nothing of it was sent anywhere.

${parts.map(({ name, what }) => `${name.padEnd(20)} ${what}`).join("\n")}

Values of keys that sound like secrets, private keys, addresses' passwords and queries, bearer tokens and what looks
encoded were taken out ([redacted]), and so was every secret of this machine that Stillpoint knows. Names of hosts,
users, folders and disks stand in it as they are: look it through before you send it.
`;
}

/**
 * Takes out of texts and documents what could be a secret: by the names of keys, by shape, and those of this machine
 * that are known, letter by letter. Pure. Rather too much than too little: what is left must be safe to send.
 */
export const redacted = "[redacted]";

const words =
	"passwords? passwd passphrase pwd tokens? keys? secrets? sas sig signature credentials? authorization cookies?";
const secretWord = new RegExp(`^(?:${words.split(" ").join("|")})$`, "i");
/** Also inside of a longer word without a seam: `mypassword`, `accountkey`. */
const secretPart =
	/password|passwd|passphrase|secret|token|credential|authorization|cookie|protectedsettings|(?:api|account|access|private|shared)key/i;

export function isSecretName(name: string): boolean {
	const parts = name.replaceAll(/([a-z0-9])([A-Z])/g, "$1 $2").split(/[^A-Za-z0-9]+/);
	return secretPart.test(name) || parts.flatMap((one) => one.split(" ")).some((one) => secretWord.test(one));
}

export type Redact = { text(text: string): string; value(value: unknown): unknown };

/** @param known secrets of this machine; those that are longer first. */
export function makeRedact(known: readonly string[]): Redact {
	const literally = [...new Set(known)].filter((one) => one !== "").sort((a, b) => b.length - a.length);
	const text = (given: string): string =>
		redactShapes(literally.reduce((rest, one) => rest.replaceAll(one, redacted), given));
	const value = (given: unknown): unknown => {
		if (typeof given === "string") return text(given);
		if (Array.isArray(given))
			return given.map((one, index) => (followsSecretOption(given, index) ? redacted : value(one)));
		if (typeof given !== "object" || given === null) return given;
		return Object.fromEntries(
			Object.entries(given).map(([name, one]) => [text(name), isSecretName(name) ? hide(one) : value(one)]),
		);
	};
	return { text, value };
}

/** Whether there is something is told. */
function hide(value: unknown): unknown {
	return value === null || value === undefined || typeof value === "boolean" ? value : redacted;
}

/** `["--password", "x"]` */
function followsSecretOption(words: readonly unknown[], index: number): boolean {
	const before = words[index - 1];
	return typeof before === "string" && /^--?[\w-]+$/.test(before) && isSecretName(before);
}

const pem = /-----BEGIN [A-Z0-9 ]+-----[\s\S]*?(?:-----END [A-Z0-9 ]+-----|$)/g;
const url = /\b([a-z][a-z0-9+.-]*:\/\/)([^\s"'<>]*@)?([^\s"'<>?#]*)(\?[^\s"'<>#]*)?/gi;
/** `//USER:PASSWORD@HOST`, as of a share. */
const share = /(\/\/)[^\s/@:]+:[^\s@]+@/g;
const scheme = /\b(bearer|basic|digest|negotiate|sharedaccesssignature|sharedkey)\s+[\w.~+/=:%&-]{6,}/gi;
const header = /\b((?:proxy-)?authorization|(?:set-)?cookie)(\\?["']?\s*[:=]\s*)[^\n]*/gi;
/** `NAME=VALUE`, `NAME: VALUE`, `"NAME":"VALUE"`, also with escaped quotes, `--NAME VALUE`. */
const assignment = /(--?)?([A-Za-z][\w.-]*)(\\?["']?)(\s*[:=]\s*|(?<=--[\w.-]+)\s+)(\\?["'])?/g;
const jwt = /\beyJ[\w-]{8,}\.[\w-]+(?:\.[\w-]*)?/g;
const hex = /(?<![0-9a-z])[0-9a-f]{32,}(?![0-9a-z])/gi;
const base64 = /(?<![\w.+-])[\w+/-]{40,}={0,2}/g;

function redactShapes(text: string): string {
	return redactAssignments(
		text
			.replaceAll(pem, redacted)
			.replaceAll(url, (_all, start: string, user?: string, rest = "", query?: string) =>
				[start, user === undefined ? "" : `${redacted}@`, rest, query === undefined ? "" : `?${redacted}`].join(""),
			)
			.replaceAll(share, `$1${redacted}@`)
			.replaceAll(header, `$1$2${redacted}`)
			.replaceAll(scheme, `$1 ${redacted}`)
			.replaceAll(jwt, redacted)
			.replaceAll(base64, (one) => (looksEncoded(one) ? redacted : one))
			.replaceAll(hex, redacted),
	);
}

/** A path has many short names; what is encoded has letters of both cases and digits without a seam. */
function looksEncoded(text: string): boolean {
	return text
		.split(/[/_-]/)
		.some((one) => one.length >= 18 && /[a-z]/.test(one) && /[A-Z]/.test(one) && /\d/.test(one));
}

function redactAssignments(text: string): string {
	let result = "";
	let from = 0;
	assignment.lastIndex = 0;
	for (let found = assignment.exec(text); found !== null; found = assignment.exec(text)) {
		const [all, , name = "", , , quote] = found;
		if (!isSecretName(name)) {
			// The name may itself begin inside of what was matched.
			assignment.lastIndex = found.index + Math.max(1, all.length - (quote?.length ?? 0));
			continue;
		}
		const start = found.index + all.length;
		const end = quote === undefined ? endOfWord(text, start) : endOfQuote(text, start, quote);
		result += text.slice(from, start) + (end > start ? redacted : "");
		from = end;
		assignment.lastIndex = Math.max(end, start);
	}
	return result + text.slice(from);
}

function endOfWord(text: string, start: number): number {
	if (text.startsWith(redacted, start)) return start + redacted.length;
	const length = text.slice(start).search(/[\s,;&"'<>}\])]/);
	return length < 0 ? text.length : start + length;
}

function endOfQuote(text: string, start: number, quote: string): number {
	let end = text.indexOf(quote, start);
	// A quote that is escaped once more belongs to the value.
	while (end > start && text[end - 1] === "\\") end = text.indexOf(quote, end + 1);
	const line = text.indexOf("\n", start);
	if (end < 0) return line < 0 ? text.length : line;
	return end;
}

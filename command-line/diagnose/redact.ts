/**
 * Takes out of texts and documents what could be a secret: by the names of keys, by shape, and those of this machine
 * that are known, letter by letter. Pure. Rather too much than too little: what is left must be safe to send.
 */
export const redacted = "[redacted]";

const words =
	"passwords? passwd passphrase passcode pwd tokens? keys? secrets? sas sig signature credentials? authorization cookies? dsn";
/** What ends so: `dbpass`, `rootpw`, `masterauth`, `wpa_psk`. */
const ending = "\\w*(?<!by|com|tres|over|under|sur)pass|\\w*pw|\\w*auth|\\w*psk";
const secretWord = new RegExp(`^(?:${words.split(" ").join("|")}|${ending})$`, "i");
/** Also inside of a longer word without a seam: `mypassword`, `accountkey`. */
const secretPart =
	/password|passwd|passphrase|secret|token|credential|authorization|cookie|protectedsettings|connectionstring|(?:api|account|access|private|shared|ssh|master|encryption|signing|storage)key/i;

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
		if (Array.isArray(given)) {
			const own = withoutShortOptions(given);
			return own.map((one, index) => (followsSecretOption(own, index) ? redacted : value(one)));
		}
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

/** Programs that take a password by a short option: `mysql -pX`, `sshpass -p X`, `redis-cli -a X`, `curl -u USER:X`. */
const clients = "(?:mysql|mariadb|sshpass|mongo|redis-cli|valkey-cli|ldap|curl|smbclient)[\\w.-]*";
const isClient = new RegExp(`^(?:.*/)?${clients}$`);
const clientLine = new RegExp(`(?<![\\w.])${clients}(?=\\s)[^\\n|;&]*`, "g");

function withoutShortOptions(words: readonly unknown[]): readonly unknown[] {
	if (typeof words[0] !== "string" || !isClient.test(words[0])) return words;
	return words.map((one, index) => {
		if (typeof one !== "string") return one;
		const before = words[index - 1];
		if (before === "-p" || before === "-a" || before === "-w") return one.startsWith("-") ? one : redacted;
		if (before === "-u" || before === "-U") return one.replace(/^([^:]*[:%]).+$/, `$1${redacted}`);
		return one.replace(/^(-[paw]).+$/, `$1${redacted}`);
	});
}

function redactClientLine(line: string): string {
	return line
		.replaceAll(/(\s-[paw]\s*)(?![\s-])(?:"[^"]*"|'[^']*'|[^\s"']+)/g, `$1${redacted}`)
		.replaceAll(/(\s-[uU]\s*["']?[^\s:%"']*[:%])[^\s"']+/g, `$1${redacted}`);
}

/** SQL that makes a user, and the lines of a Redis configuration. Blanks are bounded: without that, a million of them take minutes. */
const statement =
	/\b(identified\s{1,64}(?:with\s{1,64}\S+\s{1,64})?(?:by|as)(?:\s{1,64}password)?|password|requirepass|masterauth)(\s{1,64})(?:(\\?["'])(?:(?!\3)[^\n])*|(?<=(?:requirepass|masterauth)\s{1,64})\S+)/gi;
const oracleLine = /\b(?:sqlplus|rman)\s[^\n|;&]*/g;
const oracleLogin = /(\s["']?[\w$#]+\/)[^\s@"'/]+(?=[@\s"']|$)/g;
/** `USER:PASSWORD@HOST` without a scheme. */
const login = /(?<![\w/@.:-])([\w.+-]+:)[^\s:@/'"()]+@(?=[\w[])/g;
/** Tokens whose makers give them a beginning of their own. */
const marked =
	/\b(?:AKIA|ASIA)[0-9A-Z]{16}\b|\b(?:gh[pousr]|npm|github_pat)_\w{20,}|\bglpat-[\w-]{15,}|\bxox[abeprs]-[\w-]{10,}|\bsk-[\w-]{16,}|\bAIza[\w-]{30,}|\bhv[bs]\.[\w-]{20,}/g;

const pem = /-----BEGIN [A-Z0-9 ]+-----[\s\S]*?(?:-----END [A-Z0-9 ]+-----|$)/g;
const url = /\b([a-z][a-z0-9+.-]{0,30}:\/\/)([^\s"'<>]{0,1024}@)?([^\s"'<>?#]*)(\?[^\s"'<>#]*)?/gi;
/** `//USER:PASSWORD@HOST`, as of a share. */
const share = /(\/\/)[^\s/@:]{1,256}:[^\s@]{1,256}@/g;
const scheme = /\b(bearer|basic|digest|negotiate|sharedaccesssignature|sharedkey)\s+[\w.~+/=:%&-]{6,}/gi;
const header = /\b((?:proxy-)?authorization|(?:set-)?cookie)(\\?["']?\s*[:=]\s*)[^\n]*/gi;
/**
 * `NAME=VALUE`, `NAME: VALUE`, `"NAME":"VALUE"`, also with escaped quotes, `--NAME VALUE`. A name is tried from its first
 * letter only: what scripts print may be made to be slow.
 */
const assignment =
	/(?:(?<![\w.-])--(?<option>[A-Za-z][\w.-]*)\s+|(?<![\w.-])-*(?<name>[A-Za-z_][\w.-]*)\\?["']?\s*[:=]\s*)(?<quote>\\?["'])?/g;
const jwt = /(?<![\w-])eyJ[\w-]{8,}\.[\w-]+(?:\.[\w-]*)?/g;
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
			.replaceAll(clientLine, redactClientLine)
			.replaceAll(oracleLine, (line) => line.replaceAll(oracleLogin, `$1${redacted}`))
			.replaceAll(statement, `$1$2$3${redacted}`)
			.replaceAll(login, `$1${redacted}@`)
			.replaceAll(marked, redacted)
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
		const [all] = found;
		const { option, name = option ?? "", quote } = found.groups ?? {};
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

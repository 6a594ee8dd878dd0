/** Shorter texts are no secrets that could be told from ordinary words. */
const shortestSecret = 5;

/** Replaces every text that stands somewhere in the protected settings: for what is said, logged or put in a status. */
export function maskSecrets(text: string, protectedSettings: Readonly<Record<string, unknown>>): string {
	const secrets = [...new Set(textsOf(protectedSettings))].sort((a, b) => b.length - a.length);
	if (secrets.length === 0) return text;
	const anyOfThem = secrets.map((secret) => secret.replaceAll(/[\\^$.*+?()[\]{}|/-]/g, "\\$&")).join("|");
	return text.replaceAll(new RegExp(anyOfThem, "g"), "[secret]");
}

function* textsOf(value: unknown): Generator<string> {
	if (typeof value === "string") {
		if (value.length >= shortestSecret) yield value;
	} else if (typeof value === "object" && value !== null) for (const one of Object.values(value)) yield* textsOf(one);
}

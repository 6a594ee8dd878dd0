/**
 * The bytes of a base64 text; undefined for what is none. Blanks and line ends may stand anywhere: they are taken out
 * first, because one expression that lets them pass everywhere tries every way to share out a long run of them.
 */
export function findBase64(text: string): Buffer | undefined {
	const letters = text.replaceAll(/\s+/g, "");
	return /^[A-Za-z0-9+/]+={0,2}$/.test(letters) ? Buffer.from(letters, "base64") : undefined;
}

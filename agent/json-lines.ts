/** Where the keys of a JSON text stand, so that a fault or a value can be found with an editor. */
export type KeyLines = {
	/** `log.level`, `tempDisks.0` -> the line that it begins on, from 1; of a key that stands twice the last, as it counts. */
	readonly lines: ReadonlyMap<string, number>;
	/** Keys that stand twice in one object: all but the last are lost without a word. */
	readonly twice: readonly { key: string; line: number }[];
};

type Frame = { key: string; index: number; isArray: boolean; awaitsKey: boolean; seen: Set<string> };

/** No configuration goes deeper, nor has longer paths; without a limit those of a hostile text would fill all memory. */
const deepest = 32;
const longestPath = 256;

/** @param text that JSON.parse takes; of any other nothing certain is said. */
export function findKeyLines(text: string): KeyLines {
	const lines = new Map<string, number>();
	const twice: { key: string; line: number }[] = [];
	const frames: Frame[] = [];
	let line = 1;
	const pathOf = () => frames.map((frame) => (frame.isArray ? String(frame.index) : frame.key)).join(".");
	const isToldOf = () =>
		frames.length <= deepest && frames.reduce((sum, { key }) => sum + key.length, frames.length) <= longestPath;
	const noteElement = () => {
		if (frames.at(-1)?.isArray && isToldOf()) lines.set(pathOf(), line);
	};
	for (const [token] of text.matchAll(/\n|"(?:[^"\\]|\\.)*"|[{}[\],:]|[^\s{}[\],:"]+/g)) {
		const top = frames.at(-1);
		if (token === "\n") line += 1;
		else if (token === "{" || token === "[") {
			noteElement();
			frames.push({ key: "", index: 0, isArray: token === "[", awaitsKey: token === "{", seen: new Set() });
		} else if (token === "}" || token === "]") frames.pop();
		else if (token === "," && top !== undefined) {
			top.index += 1;
			top.awaitsKey = !top.isArray;
		} else if (top?.awaitsKey === true && frames.length <= deepest && token.startsWith('"')) {
			top.key = nameIn(token);
			top.awaitsKey = false;
			if (isToldOf()) {
				if (top.seen.has(top.key)) twice.push({ key: pathOf(), line });
				lines.set(pathOf(), line);
			}
			top.seen.add(top.key);
		} else if (token !== ":") noteElement();
	}
	return { lines, twice };
}

function nameIn(token: string): string {
	try {
		return String(JSON.parse(token));
	} catch {
		return token;
	}
}

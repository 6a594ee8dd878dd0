import * as fc from "fast-check";
import { hostileText, hostileValue } from "./hostile-values.ts";
import { spoilText, textSpoilings } from "./mutated-text.ts";

type Change =
	| {
			readonly kind: "replace" | "wrap" | "add" | "insert";
			readonly at: number;
			readonly value: unknown;
			readonly key: string;
	  }
	| { readonly kind: "delete" | "copy" | "rename"; readonly at: number; readonly from: number; readonly key: string };

/** A good document with a few faults in it, as an object. `__proto__` is then a key like any other, as `JSON.parse` makes it. */
export function mutatedValue(good: fc.Arbitrary<unknown>): fc.Arbitrary<unknown> {
	const at = fc.nat();
	const key = fc.oneof(fc.constantFrom("__proto__", "constructor", "then", "", "type", "error"), hostileText);
	const change: fc.Arbitrary<Change> = fc.oneof(
		fc.record({ kind: fc.constantFrom("replace", "wrap", "add", "insert"), at, value: hostileValue, key }),
		fc.record({ kind: fc.constantFrom("delete", "copy", "rename"), at, from: fc.nat(), key }),
	);
	return fc
		.tuple(good, fc.array(change, { maxLength: 4 }))
		.map(([value, changes]) => changes.reduce(applyChange, structuredClone(value)));
}

/** The same as a text, which may then be spoilt as text, too: cut, doubled keys, a byte order mark, numbers too large. */
export function mutatedJson(good: fc.Arbitrary<unknown>): fc.Arbitrary<string> {
	return fc
		.tuple(mutatedValue(good), fc.constantFrom(undefined, "\t"), jsonSpoilings)
		.map(([value, indent, spoilings]) => spoilings.reduce(spoilJson, stringify(value, indent)));
}

type Spoiling = { readonly kind: "double-key" | "huge-number" | "deep"; readonly at: number };
const jsonSpoilings = fc.oneof(
	{ weight: 5, arbitrary: fc.constant([]) },
	{
		weight: 3,
		arbitrary: fc.array(
			fc.record({
				kind: fc.constantFrom<Spoiling["kind"][]>("double-key", "double-key", "huge-number", "huge-number", "deep"),
				at: fc.nat(),
			}),
			{ minLength: 1, maxLength: 2 },
		),
	},
	{ weight: 2, arbitrary: textSpoilings.map((one) => [one]) },
);

function spoilJson(text: string, spoiling: Spoiling | Parameters<typeof spoilText>[1]): string {
	if (Array.isArray(spoiling)) return spoilText(text, spoiling);
	const { kind, at } = spoiling as Spoiling;
	if (kind === "deep") return at % 2 === 0 ? "[".repeat(100_000) : `${'{"a":'.repeat(50_000)}1${"}".repeat(50_000)}`;
	const places = [...text.matchAll(kind === "double-key" ? /"([^"\\]{1,40})":/g : /(?<=:)-?\d+/g)];
	const place = places[at % Math.max(1, places.length)];
	if (place === undefined) return text;
	const put = kind === "double-key" ? `${place[0]}null,${place[0]}` : "1e999";
	return text.slice(0, place.index) + put + text.slice(place.index + place[0].length);
}

/** What nests too deep for `JSON.stringify` is written by hand: others' programs can write it. */
function stringify(value: unknown, indent: string | undefined): string {
	try {
		return JSON.stringify(value, undefined, indent) ?? "null";
	} catch {
		return `{"a":${"[".repeat(20_000)}${"]".repeat(20_000)}}`;
	}
}

type Place = {
	readonly holder: Record<string, unknown> | unknown[] | undefined;
	readonly key: string;
	readonly value: unknown;
};
const mostPlaces = 3_000;

function placesOf(root: unknown): Place[] {
	const places: Place[] = [{ holder: undefined, key: "", value: root }];
	for (let at = 0; at < places.length && places.length < mostPlaces; at += 1) {
		const holder = places[at]?.value;
		if (!isHolder(holder)) continue;
		for (const [key, value] of Object.entries(holder)) places.push({ holder, key, value });
	}
	return places;
}

function isHolder(value: unknown): value is Record<string, unknown> | unknown[] {
	return typeof value === "object" && value !== null;
}

function applyChange(root: unknown, change: Change): unknown {
	const places = placesOf(root);
	const { holder, key, value } = places[change.at % places.length] as Place;
	// The generator's own constants must stay what they are, for the cases that follow.
	const given = "value" in change ? structuredClone(change.value) : undefined;
	switch (change.kind) {
		case "replace":
			return put(root, holder, key, given);
		case "wrap":
			return put(root, holder, key, change.at % 2 === 0 ? [value] : { [change.key]: value });
		case "add":
			if (isHolder(value) && !Array.isArray(value)) define(value, change.key, given);
			return root;
		case "insert":
			if (Array.isArray(value)) value.push(given, ...value);
			return root;
		case "delete":
			if (Array.isArray(holder)) holder.splice(Number(key), 1);
			else if (holder !== undefined) delete holder[key];
			return root;
		case "copy":
			return put(root, holder, key, structuredClone(places[change.from % places.length]?.value));
		case "rename":
			if (holder === undefined || Array.isArray(holder)) return root;
			delete holder[key];
			define(holder, change.key, value);
			return root;
	}
}

function put(root: unknown, holder: Place["holder"], key: string, value: unknown): unknown {
	if (holder === undefined) return value;
	define(holder, key, value);
	return root;
}

function define(holder: object, key: string, value: unknown): void {
	if (Array.isArray(holder) && key === "length") return;
	Object.defineProperty(holder, key, { value, enumerable: true, configurable: true, writable: true });
}

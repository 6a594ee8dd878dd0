/** `@peculiar/x509`, the one file that imports it: both agent (certificate request) and controller (own CA) make certificates. */
import type * as x509 from "@peculiar/x509";

export type X509 = typeof x509;

/**
 * The library's container asks for `Reflect.getMetadata` when it is loaded and uses it for nothing else than classes
 * without arguments; these three functions are all that it needs of a polyfill.
 */
export async function loadX509(): Promise<X509> {
	const reflect = Reflect as unknown as Record<string, unknown>;
	if (typeof reflect["getMetadata"] !== "function") Object.assign(reflect, makeMetadata());
	return await import("@peculiar/x509");
}

function makeMetadata() {
	const kept = new WeakMap<object, Map<unknown, unknown>>();
	const getOwnMetadata = (key: unknown, target: object): unknown => kept.get(target)?.get(key);
	return {
		getOwnMetadata,
		getMetadata(key: unknown, target: object): unknown {
			for (let one: object | null = target; one !== null; one = Object.getPrototypeOf(one)) {
				const value = getOwnMetadata(key, one);
				if (value !== undefined) return value;
			}
			return undefined;
		},
		defineMetadata(key: unknown, value: unknown, target: object): void {
			const own = kept.get(target) ?? new Map<unknown, unknown>();
			own.set(key, value);
			kept.set(target, own);
		},
	};
}

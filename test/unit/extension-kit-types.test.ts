import { expect, test } from "vitest";
import * as kit from "../../extensions/kit/kit.ts";
import type * as Declared from "../../extensions/kit/templates/ts/stillpoint-kit.d.mts";

// The compiler holds the declarations, which authors get beside the bundle, to the sources: both ways.
const declared: typeof Declared = kit;
const source: Pick<typeof kit, keyof typeof Declared> = declared;

test("the kit exports what its declarations say, and nothing else", () => {
	const names: Record<keyof typeof Declared, true> = { checkHandler: true, openHandlerHost: true, runHandler: true };
	expect(Object.keys(source).sort()).toEqual(Object.keys(names).sort());
});

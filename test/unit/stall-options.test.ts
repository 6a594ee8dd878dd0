import { expect, test } from "vitest";
import { stallOf } from "../../command-line/stall-options.ts";

test("the options of a stall budget make that part of the order", () => {
	expect(() => stallOf({ stallWaitMs: 5 })).toThrow(/--stall-budget-ms/);
	expect(stallOf({})).toEqual({});
	expect(stallOf({ stallBudgetMs: 300 })).toEqual({ stall: { budgetMs: 300, waitMs: 0 } });
	expect(stallOf({ stallBudgetMs: 300, stallWaitMs: 5 })).toEqual({ stall: { budgetMs: 300, waitMs: 5 } });
});

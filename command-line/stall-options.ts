import { StillpointError } from "../contracts/errors.ts";
import type { Order } from "../contracts/order.ts";

export const stallBudgetText = "refuse when writers would be stopped for longer, as predicted before the freeze";
export const stallWaitText = "with --stall-budget-ms: wait this long for a quieter moment before refusing";

/** @throws `usage-invalid` */
export function stallOf({ stallBudgetMs, stallWaitMs }: { stallBudgetMs?: number; stallWaitMs?: number }): {
	stall?: NonNullable<Order["stall"]>;
} {
	if (stallBudgetMs === undefined && stallWaitMs !== undefined)
		throw new StillpointError("usage-invalid", "--stall-wait-ms says nothing without --stall-budget-ms");
	return stallBudgetMs === undefined ? {} : { stall: { budgetMs: stallBudgetMs, waitMs: stallWaitMs ?? 0 } };
}

import type { Order } from "../contracts/order.ts";

/** The order's hold limit under the local cap. A hold of level crash freezes nothing, so the cap does not bind it. */
export function cappedHoldMs(order: Pick<Order, "level" | "holdLimitMs">, capMs: number): number {
	return order.level === "crash" ? order.holdLimitMs : Math.min(order.holdLimitMs, capMs);
}

/** The order's stall budget under the local cap; none where nobody says one, or nothing is frozen. */
export function cappedStallMs(order: Pick<Order, "level" | "stall">, capMs: number | null): number | undefined {
	if (order.level === "crash") return undefined;
	const limits = [order.stall?.budgetMs, capMs ?? undefined].filter((one) => one !== undefined);
	return limits.length === 0 ? undefined : Math.min(...limits);
}

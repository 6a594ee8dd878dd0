import type { Order } from "../contracts/order.ts";

/** The order's hold limit under the local cap. A hold of level crash freezes nothing, so the cap does not bind it. */
export function cappedHoldMs(order: Pick<Order, "level" | "holdLimitMs">, capMs: number): number {
	return order.level === "crash" ? order.holdLimitMs : Math.min(order.holdLimitMs, capMs);
}

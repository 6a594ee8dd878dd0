import { z } from "zod";
import { auditEntrySchema } from "../../contracts/controller-api.ts";
import { defineRoute } from "./route.ts";
import { nothing, wholeNumber } from "./route-parts.ts";

const word = z.string().min(1).max(128).optional();

export const auditRoutes = [
	defineRoute({
		id: "listAudit",
		method: "GET",
		path: "/v1/audit",
		tag: "Audit",
		access: "viewer",
		summary: "Who did what, when, and how it ended; the newest first.",
		description: "For the next page ask again with `before` set to `next`; without `next` there is none.",
		params: nothing,
		query: z.strictObject({
			limit: wholeNumber(1, 1_000).default(100),
			before: wholeNumber(1, Number.MAX_SAFE_INTEGER).optional(),
			actor: word,
			action: word,
			target: word,
			outcome: word,
		}),
		status: 200,
		answer: z.object({ entries: z.array(auditEntrySchema), next: z.int().positive().optional() }),
		errors: [],
		async handle({ store }, { query: { limit, before, actor, action, target, outcome } }) {
			const filter = { ...(before === undefined ? {} : { before }), ...(actor ? { actor } : {}) };
			const more = { ...(action ? { action } : {}), ...(target ? { target } : {}), ...(outcome ? { outcome } : {}) };
			const found = await store.listAudit({ ...filter, ...more, limit: limit + 1 });
			const entries = found.slice(0, limit);
			const next = entries.at(-1)?.sequence;
			return found.length <= limit || next === undefined ? { entries } : { entries, next };
		},
	}),
];

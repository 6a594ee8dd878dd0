import { agentRoutes } from "./agents.ts";
import { auditRoutes } from "./audit.ts";
import { credentialRoutes } from "./credentials.ts";
import { documentRoutes } from "./document.ts";
import { enrolmentRoutes } from "./enrolment.ts";
import { eventRoutes } from "./events.ts";
import { jobRoutes } from "./jobs.ts";
import { recoveryPointRoutes } from "./recovery-points.ts";
import type { AnyRoute } from "./route.ts";

/** Every route of the API. What is not in here does not answer, and is in no document. */
export const routeTable: readonly AnyRoute[] = [
	...agentRoutes,
	...jobRoutes,
	...recoveryPointRoutes,
	...enrolmentRoutes,
	...credentialRoutes,
	...auditRoutes,
	...eventRoutes,
	...documentRoutes,
];

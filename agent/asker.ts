import type { HoldEvent } from "../contracts/hold-protocol.ts";
import type { Report } from "../contracts/report.ts";
import type { AskerKind } from "./journal.ts";

/** Who ordered a job and is told of it: a connection of the local channel, or the controller's link. */
export type Asker = {
	readonly kind: AskerKind;
	/** Of the link: which controller. Its jobs and their reports are told to no other. */
	readonly controller?: string;
	/** Never throws; an asker that is gone is told nothing. The link's report goes through the outbox instead. */
	send(event: HoldEvent | { type: "report"; report: Report }): void;
	/** Aborted when the connection ended. */
	readonly closed: AbortSignal;
};

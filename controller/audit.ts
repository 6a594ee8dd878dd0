import { asStillpointError, type ErrorCode } from "../contracts/errors.ts";
import type { Log } from "./log.ts";
import type { Store, StoredAuditEntry } from "./store.ts";

/** Who did it. `name` of a caller without a certificate of ours is `nobody`; the controller itself is `controller`. */
export type Actor = {
	readonly name: string;
	readonly role: string;
	readonly serial?: string;
	readonly address: string;
};
export type Deed = {
	readonly actor: Actor;
	/** Words with dots, such as `snapshot.order`. */
	readonly action: string;
	readonly target?: string | undefined;
	/** No secrets. */
	readonly details?: Record<string, unknown> | undefined;
};
export type Outcome = "ok" | ErrorCode;

export type Audit = AsyncDisposable & {
	/**
	 * To be written before the deed is done; rejects when it cannot be, and then the deed must not be done. What the
	 * entry is settled with is written after; that alone may fail, and then the entry says `begun`.
	 */
	begin(deed: Deed): Promise<{ settle(outcome: Outcome, also?: Pick<Deed, "target" | "details">): Promise<void> }>;
	/** What was refused or is over: written at once, and a failure only logged, as there is nothing left to refuse. */
	note(deed: Deed, outcome: Outcome): Promise<void>;
	/**
	 * As `note`, for what anybody can cause at will: the same again within a minute is counted, and written as one more
	 * entry with `details.repeated`, so that a flood is told of and does not fill the disk.
	 */
	noteRefused(deed: Deed, code: ErrorCode): Promise<void>;
};

export const controllerActor: Actor = { name: "controller", role: "controller", address: "-" };

const repeatedWithinMs = 60_000;
/** Different refusals within that time; what comes on top is counted in one entry. */
const refusalsKept = 200;
const mostText = 256;

type Refusal = { readonly deed: Deed; readonly code: ErrorCode; readonly timer: NodeJS.Timeout; repeated: number };

export function makeAudit(store: Pick<Store, "addAuditEntry" | "settleAuditEntry">, log: Log): Audit {
	const refusals = new Map<string, Refusal>();

	const add = (deed: Deed, outcome: string) => store.addAuditEntry(makeEntry(deed, outcome));
	const failed = ({ action }: Deed) => {
		return (error: unknown) =>
			log.error("audit entry not written", { action, reason: asStillpointError(error).message });
	};

	async function note(deed: Deed, outcome: Outcome): Promise<void> {
		await add(deed, outcome).catch(failed(deed));
	}

	async function tellRepeated(key: string): Promise<void> {
		const refusal = refusals.get(key);
		refusals.delete(key);
		if (refusal === undefined) return;
		clearTimeout(refusal.timer);
		const { deed, code, repeated } = refusal;
		if (repeated > 0) await note({ ...deed, details: { ...deed.details, repeated } }, code);
	}

	return {
		note,
		async begin(deed) {
			const sequence = await add(deed, "begun");
			return {
				async settle(outcome, also = {}) {
					const { target, details } = makeEntry({ ...deed, ...also }, outcome);
					const end = { outcome, ...(target === undefined ? {} : { target }), ...(details ? { details } : {}) };
					await store.settleAuditEntry(sequence, end).catch(failed(deed));
				},
			};
		},
		async noteRefused(deed, code) {
			const { actor, action } = deed;
			const own = JSON.stringify([actor.name, actor.serial, actor.address, action, code]);
			const isKnown = refusals.has(own) || refusals.size < refusalsKept;
			const key = isKnown ? own : "many";
			const told = isKnown ? deed : { actor: { name: "many", role: "nobody", address: "many" }, action: "many" };
			const known = refusals.get(key);
			if (known !== undefined) {
				known.repeated += 1;
				return;
			}
			const timer = setTimeout(() => void tellRepeated(key), repeatedWithinMs).unref();
			refusals.set(key, { deed: told, code, timer, repeated: 0 });
			await note(told, code);
		},
		async [Symbol.asyncDispose]() {
			for (const key of [...refusals.keys()]) await tellRepeated(key);
		},
	};
}

function makeEntry({ actor, action, target, details }: Deed, outcome: string): Omit<StoredAuditEntry, "sequence"> {
	return {
		at: new Date().toISOString(),
		actor: plainText(actor.name),
		role: actor.role,
		...(actor.serial === undefined ? {} : { serial: plainText(actor.serial) }),
		address: plainText(actor.address),
		action: plainText(action),
		...(target === undefined ? {} : { target: plainText(target) }),
		outcome,
		...(details === undefined ? {} : { details: plainDetails(details) }),
	};
}

/**
 * One line that looks like what it is: control and format characters (which could end a line or turn the reading
 * direction) and the separators of lines become `?`.
 */
export function plainText(text: string): string {
	return text.slice(0, mostText).replaceAll(/[\p{C}\p{Zl}\p{Zp}]/gu, "?");
}

function plainDetails(details: Record<string, unknown>): Record<string, unknown> {
	return JSON.parse(JSON.stringify(details), (_, value) => (typeof value === "string" ? plainText(value) : value));
}

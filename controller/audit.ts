import { asStillpointError, type ErrorCode } from "../contracts/errors.ts";
import type { Log } from "./log.ts";
import { networkOf } from "./rate-limits.ts";
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
	 * entry with `details.repeated`, so that a flood is told of and does not fill the disk. True for the first.
	 */
	noteRepeatable(deed: Deed, outcome: Outcome): Promise<boolean>;
};

export const controllerActor: Actor = { name: "controller", role: "controller", address: "-" };

const repeatedWithinMs = 60_000;
/**
 * Different deeds within that time: of one credential, agent or (of those whom we don't know) address, and of all whom we
 * don't know. What comes on top is one more entry of that caller, or of many.
 */
const differentKept = { ofOne: 50, unknown: 200 };
const mostText = 256;

type Counted = {
	readonly deed: Deed;
	readonly outcome: Outcome;
	readonly timer: NodeJS.Timeout;
	readonly source: string;
	repeated: number;
};

export function makeAudit(store: Pick<Store, "addAuditEntry" | "settleAuditEntry">, log: Log): Audit {
	const counted = { known: new Map<string, Counted>(), unknown: new Map<string, Counted>() };
	/** How many of them each source has. */
	const perSource = new Map<string, number>();

	function findPlace(deed: Deed, outcome: Outcome, kind: keyof typeof counted) {
		const { actor, action, target } = deed;
		const source = kind === "known" ? JSON.stringify([actor.role, actor.name]) : networkOf(actor.address);
		const own = JSON.stringify([actor.name, actor.serial, actor.address, action, target, outcome]);
		const many = { actor: { name: "many", role: kind, address: "many" }, action: "many" };
		if (counted[kind].has(own)) return { key: own, source, told: deed };
		if (kind === "unknown" && counted[kind].size >= differentKept.unknown)
			return { key: "many", source: "", told: many };
		if ((perSource.get(source) ?? 0) < differentKept.ofOne) return { key: own, source, told: deed };
		return { key: `many ${source}`, source: "", told: { actor, action: "many" } };
	}

	const add = (deed: Deed, outcome: string) => store.addAuditEntry(makeEntry(deed, outcome));
	const failed = ({ action }: Deed) => {
		return (error: unknown) =>
			log.error("audit entry not written", { action, reason: asStillpointError(error).message });
	};

	async function note(deed: Deed, outcome: Outcome): Promise<void> {
		await add(deed, outcome).catch(failed(deed));
	}

	async function tellRepeated(kind: keyof typeof counted, key: string): Promise<void> {
		const found = counted[kind].get(key);
		counted[kind].delete(key);
		if (found === undefined) return;
		clearTimeout(found.timer);
		const left = (perSource.get(found.source) ?? 1) - 1;
		if (left > 0) perSource.set(found.source, left);
		else perSource.delete(found.source);
		const { deed, outcome, repeated } = found;
		if (repeated > 0) await note({ ...deed, details: { ...deed.details, repeated } }, outcome);
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
		async noteRepeatable(deed, outcome) {
			const kind = deed.actor.name === "nobody" ? "unknown" : "known";
			const { key, source, told } = findPlace(deed, outcome, kind);
			const before = counted[kind].get(key);
			if (before !== undefined) {
				before.repeated += 1;
				return false;
			}
			const timer = setTimeout(() => void tellRepeated(kind, key), repeatedWithinMs).unref();
			counted[kind].set(key, { deed: told, outcome, timer, source, repeated: 0 });
			perSource.set(source, (perSource.get(source) ?? 0) + 1);
			await note(told, outcome);
			return told === deed;
		},
		async [Symbol.asyncDispose]() {
			for (const kind of ["known", "unknown"] as const)
				for (const key of [...counted[kind].keys()]) await tellRepeated(kind, key);
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

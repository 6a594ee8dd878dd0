import { createHash, randomBytes } from "node:crypto";
import { isIPv6 } from "node:net";
import { RateLimiterMemory, RateLimiterRes } from "rate-limiter-flexible";
import { StillpointError } from "../contracts/errors.ts";
import type { Caller } from "./caller.ts";

/** So many in a window of so long; the next window begins anew. */
export type Rate = { readonly points: number; readonly perS: number };

export type RequestRates = {
	/** All requests of one credential. */
	readonly requests: Rate;
	/** Of those, what changes or orders something: each is written to the audit log. */
	readonly changes: Rate;
	/** Requests without a good certificate (enrolments too), from one address. */
	readonly unknownCallers: Rate;
	/** The same from everywhere. */
	readonly unknownCallersInAll: Rate;
	/** Connections of one agent to the link. */
	readonly links: Rate;
};

/**
 * Far above what normal life needs: a script that orders snapshots of 500 machines at once and waits for each with its
 * own long poll (about 60 requests a second), 500 machines behind one address that are enrolled by one tool in the same
 * minute (two requests each at most), an agent that loses its link every few seconds.
 */
export const requestRates: RequestRates = {
	requests: { points: 3_000, perS: 10 },
	changes: { points: 1_200, perS: 60 },
	unknownCallers: { points: 1_500, perS: 60 },
	unknownCallersInAll: { points: 6_000, perS: 60 },
	links: { points: 300, perS: 60 },
};

export type RateLimits = {
	/** `rate-limited`, with `details.retryAfterS`. */
	takeRequest(caller: Caller, address: string, changes: boolean): Promise<void>;
	takeLink(agentId: string): Promise<void>;
};

/** Addresses share so many counters: that bounds the memory, however many addresses there are. */
const addressCounters = 8_192;

/** Counts in memory: a restart forgets. Names of credentials and agents are few, because the controller gave them. */
export function makeRateLimits(rates: RequestRates): RateLimits {
	const limiter = ({ points, perS }: Rate) => new RateLimiterMemory({ points, duration: perS });
	const requests = limiter(rates.requests);
	const changes = limiter(rates.changes);
	const unknown = limiter(rates.unknownCallers);
	const unknownInAll = limiter(rates.unknownCallersInAll);
	const links = limiter(rates.links);
	// Secret, so that nobody can choose an address that shares the counter of another.
	const salt = randomBytes(16);

	return {
		async takeRequest(caller, address, isChange) {
			if (caller.role === "nobody" || caller.role === "untrusted") {
				await take(unknown, counterOf(address, salt), "requests without a certificate from this address");
				await take(unknownInAll, "all", "requests without a certificate");
				return;
			}
			const key = `${caller.role} ${caller.name}`;
			await take(requests, key, `requests of ${caller.name}`);
			if (isChange) await take(changes, key, `changing requests of ${caller.name}`);
		},
		takeLink: (agentId) => take(links, agentId, `connections of agent ${agentId}`),
	};
}

async function take(limiter: RateLimiterMemory, key: string, what: string): Promise<void> {
	try {
		await limiter.consume(key);
	} catch (spent) {
		if (!(spent instanceof RateLimiterRes)) throw spent;
		const retryAfterS = Math.max(1, Math.ceil(spent.msBeforeNext / 1_000));
		throw new StillpointError("rate-limited", `too many ${what}`, {
			details: { retryAfterS, limit: limiter.points, perS: limiter.duration },
		});
	}
}

function counterOf(address: string, salt: Buffer): string {
	const digest = createHash("sha256").update(salt).update(networkOf(address)).digest();
	return String(digest.readUInt32BE(0) % addressCounters);
}

/** Who has one IPv6 address has 2^64 of them: they count as one. */
export function networkOf(address: string): string {
	const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(address)?.[1];
	if (mapped !== undefined || !isIPv6(address)) return mapped ?? address;
	const [head = "", tail] = address.split("%")[0]?.split("::") ?? [];
	const before = head.split(":").filter((group) => group !== "");
	const after = tail === undefined ? [] : tail.split(":").filter((group) => group !== "");
	const zeros = Array(Math.max(0, 8 - before.length - after.length)).fill("0");
	return [...before, ...zeros, ...after]
		.slice(0, 4)
		.map((group) => Number.parseInt(group, 16).toString(16))
		.join(":");
}

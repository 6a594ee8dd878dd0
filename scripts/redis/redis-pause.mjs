/**
 * CLIENT PAUSE ... WRITE as a dead man's switch: it is short, and renewed as long as this process lives. A renewal never
 * shortens a pause, and there is no gap between two.
 *
 * That it never lapsed is told by a probe: a second connection whose command the pause holds up. It is answered as soon
 * as writes go on, whoever let them, and however briefly.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { exits, HoldError } from "../kit/hold-session.mjs";
import { RedisClient } from "./redis-client.mjs";

/** What is left of a pause when the script dies. */
const stepMs = 10_000;
const pollMs = 10;

export class RedisPause {
	#client;
	#connection;
	#limits;
	#probe;
	#probeId;
	#firstAtMs = 0;
	/** Until then, by our own monotonic clock, the server surely holds. */
	#endsAtMs = 0;
	#renewal;
	#renewing = Promise.resolve();
	#isOver = true;
	#fault;
	#lost = Promise.withResolvers();

	/** @param {{ lockTimeoutMs: number, pauseLimitMs: number }} limits `pauseLimitMs`: of all renewals together */
	constructor(client, connection, limits) {
		this.#client = client;
		this.#connection = connection;
		this.#limits = limits;
	}

	/** Resolves with the reason when it is known not to hold any more. */
	get lost() {
		return this.#lost.promise;
	}

	/** Waits out a pause of somebody else: when it ends is not told, so that it could not be given back. */
	async requireNoOther() {
		const probe = new RedisClient(this.#connection, this.#limits.lockTimeoutMs);
		try {
			await probe.probe(this.#limits.lockTimeoutMs);
		} catch (error) {
			if (error.exitCode !== exits.temporary) throw error;
			throw new HoldError(exits.temporary, "somebody else pauses its writes, or it does not answer");
		} finally {
			await probe.kill();
		}
	}

	/** Writers wait when it returns. */
	async begin() {
		this.#firstAtMs = performance.now();
		this.#isOver = false;
		await this.#pause();
		await this.#startProbe();
		this.#renewal = setInterval(() => {
			this.#renewing = this.#renewing.then(() => this.#renew());
		}, stepMs / 5);
	}

	/** Why it did not hold until now; undefined: it did. Does not end it. */
	async findFault() {
		clearInterval(this.#renewal);
		await this.#renewing;
		if (this.#fault === undefined && performance.now() >= this.#endsAtMs)
			this.#lose("the pause may have ended by itself before the hold was released");
		if (this.#fault === undefined && !(await this.#isProbeHeldUp())) this.#lose("writes went on meanwhile");
		return this.#fault;
	}

	/** Lets writers go on. Does nothing when it was not begun, or has ended. */
	async end() {
		clearInterval(this.#renewal);
		const wasOver = this.#isOver;
		this.#isOver = true;
		if (!wasOver) await this.#unpause();
		await this.#probe?.kill();
	}

	async #unpause() {
		try {
			await this.#client.command("CLIENT UNPAUSE");
		} catch {
			// The client may be dead, or hang: the pause is the server's.
			const other = new RedisClient(this.#connection, this.#limits.lockTimeoutMs);
			try {
				await other.command("CLIENT UNPAUSE");
			} catch (error) {
				const leftMs = Math.max(0, Math.ceil(this.#endsAtMs - performance.now()));
				throw new HoldError(error.exitCode, `${error.message}; the pause ends by itself in at most ${leftMs} ms`);
			} finally {
				await other.kill();
			}
		}
	}

	async #pause() {
		const now = performance.now();
		const lengthMs = Math.min(stepMs, Math.floor(this.#firstAtMs + this.#limits.pauseLimitMs - now));
		if (lengthMs <= 0 || now + lengthMs <= this.#endsAtMs) return;
		// After the end of the pause that stands an answer proves nothing any more.
		const answerMs = this.#endsAtMs === 0 ? this.#limits.lockTimeoutMs : Math.max(1, this.#endsAtMs - now);
		await this.#client.command(`CLIENT PAUSE ${lengthMs} WRITE`, answerMs);
		if (this.#endsAtMs !== 0 && performance.now() >= this.#endsAtMs)
			throw new HoldError(exits.temporary, "the pause ended by itself before it was renewed");
		this.#endsAtMs = now + lengthMs;
	}

	async #renew() {
		if (this.#isOver || this.#fault !== undefined) return;
		try {
			await this.#pause();
			if (performance.now() >= this.#endsAtMs) this.#lose("writers waited for as long as --pause-limit-ms allows");
		} catch (error) {
			this.#lose(error.message);
		}
	}

	async #startProbe() {
		const { lockTimeoutMs, pauseLimitMs } = this.#limits;
		this.#probe = new RedisClient(this.#connection, lockTimeoutMs);
		[this.#probeId] = await this.#probe.command("CLIENT ID");
		this.#probe.probe(pauseLimitMs * 2 + lockTimeoutMs).then(
			() => this.#lose("somebody ended the pause, or it lapsed"),
			(error) => this.#lose(`the connection that watches the pause was lost: ${error.message}`),
		);
		const untilMs = performance.now() + lockTimeoutMs;
		while (!(await this.#isProbeHeldUp())) {
			if (this.#fault !== undefined || performance.now() > untilMs)
				throw new HoldError(exits.temporary, this.#fault ?? "the server does not hold up writes");
			await sleep(pollMs);
		}
	}

	/** As the server sees it: its one EVAL was called, and waits. */
	async #isProbeHeldUp() {
		const [line] = await this.#client.command(`CLIENT LIST ID ${this.#probeId}`);
		return / flags=\w*b\w* .* cmd=eval /.test(line ?? "");
	}

	#lose(reason) {
		if (this.#isOver) return;
		this.#fault ??= reason;
		this.#lost.resolve(this.#fault);
	}
}

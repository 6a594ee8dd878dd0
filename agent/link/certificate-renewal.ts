/** A new certificate with a new key before the old one expires. The old one is used until the new one was let in. */
import { X509Certificate } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { asStillpointError, StillpointError } from "../../contracts/errors.ts";
import type { Log } from "../log.ts";
import type { WriteHold } from "../write-hold.ts";
import { checkCertificate, makeKeyAndRequest } from "./certificate-request.ts";
import { type Enrolment, findEnrolment, writeEnrolment } from "./enrolment-file.ts";
import type { LinkSession } from "./link-session.ts";
import type { ControllerTransport } from "./link-transport.ts";

const answerLimitMs = 30_000;
const dueAfterPart = 2 / 3;
/** Of the lifetime, both ways: machines that were enrolled together do not renew together. */
const jitterPart = 0.05;
/** Of what is left of the lifetime, between two attempts. */
const retryPart = 0.1;
const leastPauseMs = 1_000;
const freezePollMs = 250;
/** A timer holds less than 25 days; and a clock that was set is noticed. */
const longestPauseMs = 3_600_000;

export type RenewalPorts = {
	readonly log: Log;
	readonly hold: WriteHold;
	readonly stateDir: string;
	readonly transport: ControllerTransport;
	/** While true nothing may touch a disk or look up names. */
	mayBeFrozen(): boolean;
	onRenewed(enrolment: Enrolment): void;
};

/**
 * When to renew, on this machine's clock. Certificates are backdated, so their life begins when they came; one that
 * came while the clock was wrong has the life that it says itself.
 */
export function renewalDueMs(enrolment: Enrolment, random: number): number {
	const { validFromDate, validToDate } = new X509Certificate(enrolment.certificate);
	const [fromMs, endMs] = [validFromDate.getTime(), validToDate.getTime()];
	const cameMs = Date.parse(enrolment.renewedAt ?? enrolment.enrolledAt);
	const beganMs = cameMs >= fromMs && cameMs < endMs ? cameMs : fromMs;
	const lifetimeMs = endMs - beganMs;
	return beganMs + lifetimeMs * (dueAfterPart + (random * 2 - 1) * jitterPart);
}

export function certificateEndMs({ certificate }: Pick<Enrolment, "certificate">): number {
	return new X509Certificate(certificate).validToDate.getTime();
}

/** Renews when it is due, as long as the session lives; until it is disposed. */
export function startRenewal(ports: RenewalPorts, session: LinkSession, enrolment: Enrolment): Disposable {
	const { log } = ports;
	const stopped = new AbortController();
	const random = Math.random();
	const state = { enrolment, timer: undefined as NodeJS.Timeout | undefined };

	function plan(pauseMs: number): void {
		if (stopped.signal.aborted) return;
		state.timer = setTimeout(() => void attempt(), Math.min(Math.max(pauseMs, leastPauseMs), longestPauseMs));
		state.timer.unref();
	}

	async function attempt(): Promise<void> {
		const leftMs = renewalDueMs(state.enrolment, random) - Date.now();
		if (leftMs > 0 || ports.mayBeFrozen()) return plan(leftMs);
		try {
			state.enrolment = await renew(ports, session, state.enrolment, stopped.signal);
			log.info("the certificate was renewed", { until: new Date(certificateEndMs(state.enrolment)).toISOString() });
			ports.onRenewed(state.enrolment);
			const leftMs = renewalDueMs(state.enrolment, random) - Date.now();
			// Due again at once: this clock is wrong, and nothing is gained by doing it every second.
			plan(leftMs > 0 ? leftMs : longestPauseMs);
		} catch (error) {
			if (stopped.signal.aborted) return;
			const endMs = certificateEndMs(state.enrolment);
			const endsInMs = endMs - Date.now();
			log.warn("the certificate could not be renewed; it is tried again", {
				until: new Date(endMs).toISOString(),
				code: asStillpointError(error).code,
				error,
			});
			plan(endsInMs > 0 ? endsInMs * retryPart * (0.5 + Math.random()) : longestPauseMs);
		}
	}

	plan(renewalDueMs(enrolment, random) - Date.now());
	return {
		[Symbol.dispose]() {
			stopped.abort();
			clearTimeout(state.timer);
		},
	};
}

async function renew(
	{ transport, hold, stateDir, mayBeFrozen }: RenewalPorts,
	session: LinkSession,
	old: Enrolment,
	signal: AbortSignal,
): Promise<Enrolment> {
	const { key, csr } = await makeKeyAndRequest();
	const certificate = await session.renew(csr, answerLimitMs);
	checkCertificate(certificate, { key, ca: old.ca, agentId: old.agentId });
	// A job may have begun meanwhile; a certificate that came is not thrown away for it.
	while (mayBeFrozen()) await sleep(freezePollMs, undefined, { signal });
	// It says nothing on this connection: being let in is the proof.
	const proof = await transport.connect({ ...old, url: old.controllerUrl, key, certificate }, signal);
	proof.close();
	return await hold.write(async () => {
		const kept = findEnrolment(stateDir);
		if (kept?.certificate !== old.certificate)
			throw new StillpointError("not-enrolled", "the machine was enrolled anew meanwhile");
		const renewed = { ...kept, key, certificate, renewedAt: new Date().toISOString() };
		await writeEnrolment(stateDir, renewed);
		return { ...renewed, controllerUrl: old.controllerUrl };
	});
}

/** The agent's link to its controller: always one connection or the next attempt at one. */
import { setTimeout as sleep } from "node:timers/promises";
import { isDeepStrictEqual } from "node:util";
import { asStillpointError, StillpointError } from "../../contracts/errors.ts";
import type { HoldEvent } from "../../contracts/hold-protocol.ts";
import type { AgentStatus } from "../../contracts/local-calls.ts";
import type { MachineIdentity } from "../../platform/linux/machine-identity.ts";
import { isOtherMachine, lastingIdentity } from "../machine-change.ts";
import type { WriteHold } from "../write-hold.ts";
import { makeBackOff } from "./back-off.ts";
import { certificateEndMs, startRenewal } from "./certificate-renewal.ts";
import { requestEnrolment } from "./enrolment.ts";
import { controllerOf, type Enrolment } from "./enrolment-file.ts";
import { holdSession, type LinkSession, type SessionPorts } from "./link-session.ts";
import type { ControllerTransport } from "./link-transport.ts";
import { explainRefusal, isLastingRefusal, needsEnrolment } from "./refusal.ts";
import type { TicketFile } from "./ticket-file.ts";

/** A connection that lasted so long was a good one. */
const goodAfterMs = 5_000;
const requestEveryMs = 3_600_000;
const requestLimitMs = 30_000;
/** Certificates are backdated by more. */
const clockWarningMs = 300_000;

export type LinkPorts = SessionPorts & {
	readonly hold: WriteHold;
	readonly stateDir: string;
	readonly transport: ControllerTransport;
	readonly tickets: TicketFile;
	readMachine(): Promise<MachineIdentity>;
	/** As it is on disk now. */
	findEnrolment(): Enrolment | undefined;
	/**
	 * This machine is not the one of the enrolment: forgets its jobs for good, and where the controller said so never
	 * uses the enrolment again. Repeating it changes nothing, and a newer enrolment is not touched.
	 */
	disown(former: Enrolment, reason: StillpointError): Promise<void>;
};

export type LinkState = Omit<AgentStatus["link"], "unsentReports" | "heldBackReports">;

export type ControllerLink = AsyncDisposable & {
	readonly state: LinkState;
	/** SHA-256 of the CA of the controller that the agent is enrolled with. */
	readonly controller: string | undefined;
	/**
	 * Reads the enrolment again and connects at once. An attempt that is under way with the same enrolment goes on, so
	 * that calling it again and again keeps nobody from linking; should it fail, the next one follows at once.
	 */
	reload(): void;
	/** What every link must hear, though it did not order the job. */
	tell(event: HoldEvent): void;
	/** Waits until every report is acknowledged, while there is a connection, at most `limitMs`. */
	flush(limitMs: number): Promise<void>;
};

export function startControllerLink(ports: LinkPorts, stopping: AbortSignal): ControllerLink {
	const { log, runner, tickets, transport } = ports;
	const stopped = new AbortController();
	const stop = AbortSignal.any([stopping, stopped.signal]);
	const backOff = makeBackOff();
	const state = {
		enrolment: undefined as Enrolment | undefined,
		session: undefined as LinkSession | undefined,
		error: undefined as StillpointError | undefined,
		clockDifferenceMs: undefined as number | undefined,
		requestedAtMs: undefined as number | undefined,
		/** From the first byte of an attempt until it is welcome. */
		trying: false,
		/** `reload` came meanwhile. */
		again: false,
		/** Aborted by `reload`. */
		wake: new AbortController(),
	};

	async function keepLinked(): Promise<void> {
		while (!stop.aborted) {
			state.wake = new AbortController();
			state.again = false;
			state.error = await linkOnce().catch(asStillpointError);
			state.session = undefined;
			state.trying = false;
			if (state.error !== undefined && !stop.aborted) await settle(state.error);
			await pause(pauseMs());
			// A new connection looks up names and reads files: not while disks are held, unless help may be needed.
			while (!stop.aborted && runner.mayBeFrozen && runner.running?.phase !== "stuck") await sleep(100);
		}
	}

	/** The reason why there is no link (any more); undefined when there is no enrolment. */
	async function linkOnce(): Promise<StillpointError | undefined> {
		const [enrolment, machine] = [ports.findEnrolment(), await ports.readMachine()];
		state.enrolment = enrolment;
		if (enrolment === undefined) return undefined;
		requireSameMachine(enrolment, machine);
		try {
			return await holdConnection(enrolment, machine);
		} catch (error) {
			throw explainRefusal(asStillpointError(error), enrolment, new Date());
		}
	}

	async function holdConnection(enrolment: Enrolment, machine: MachineIdentity): Promise<StillpointError> {
		using undo = new DisposableStack();
		const signal = AbortSignal.any([stop, state.wake.signal]);
		state.trying = true;
		const ticket = await tickets.find(enrolment.agentId);
		const connection = await transport.connect({ ...enrolment, url: enrolment.controllerUrl }, signal);
		undo.defer(() => connection.close());
		const beganMs = performance.now();
		const ended = await holdSession(ports, {
			connection,
			enrolment,
			machine,
			ticket,
			onWelcome(welcome, session) {
				log.info("linked", { controller: enrolment.controllerUrl, agentId: enrolment.agentId });
				Object.assign(state, { session, error: undefined, trying: false });
				undo.use(startRenewal(renewalPorts, session, enrolment));
				noteClock(welcome.time);
				void keepTicket(session, enrolment.agentId, welcome.ticket);
			},
		});
		if (performance.now() - beganMs > goodAfterMs) backOff.reset();
		return ended;
	}

	const renewalPorts = {
		log,
		hold: ports.hold,
		stateDir: ports.stateDir,
		transport,
		mayBeFrozen: () => runner.mayBeFrozen,
		onRenewed(enrolment: Enrolment) {
			state.enrolment = enrolment;
		},
	};

	/** On disk first: a ticket that was confirmed and then lost would make this agent look like a copy of itself. */
	async function keepTicket(session: LinkSession, agentId: string, ticket: string): Promise<void> {
		try {
			if (!(await tickets.keep(agentId, ticket))) return;
			session.send({ type: "ticket-kept", ticket });
			log.debug("the ticket is kept");
		} catch (error) {
			log.warn("the ticket of the link could not be kept; the former one stays good", { error });
		}
	}

	function noteClock(controllerTime: string): void {
		const differenceMs = Date.parse(controllerTime) - Date.now();
		state.clockDifferenceMs = Math.abs(differenceMs) < clockWarningMs ? undefined : differenceMs;
		if (state.clockDifferenceMs !== undefined)
			log.warn("the clock of the controller differs", { controllerTime, here: new Date().toISOString() });
	}

	/** What follows from a link that ended or never came up. */
	async function settle(error: StillpointError): Promise<void> {
		const { enrolment } = state;
		log.warn("the link is down", { code: error.code, error });
		try {
			if (enrolment === undefined) return;
			if (error.code === "identity-changed") await ports.disown(enrolment, error);
			if (needsEnrolment(error)) await askForEnrolment(enrolment, error);
		} catch (failure) {
			log.error("what follows from a refused link could not be done; it is tried again", { error: failure });
		}
	}

	/** Once in each life of the agent, and then now and then: the controller keeps it for a person to see. */
	async function askForEnrolment(former: Enrolment, { message: reason }: StillpointError): Promise<void> {
		const nowMs = performance.now();
		if (state.requestedAtMs !== undefined && nowMs - state.requestedAtMs < requestEveryMs) return;
		state.requestedAtMs = nowMs;
		const signal = AbortSignal.any([stop, state.wake.signal, AbortSignal.timeout(requestLimitMs)]);
		await requestEnrolment(transport, former, { machine: await ports.readMachine(), reason, signal });
		log.warn("asked the controller to be enrolled anew", { controller: former.controllerUrl, reason });
	}

	function pauseMs(): number | undefined {
		if (state.again) return 0;
		if (state.error === undefined) return undefined;
		return isLastingRefusal(state.error) ? backOff.afterRefusal() : backOff.next();
	}

	function isOnDisk(used: Enrolment | undefined): boolean {
		try {
			return isDeepStrictEqual(ports.findEnrolment(), used);
		} catch {
			return false;
		}
	}

	/** Until `reload`, a stop, or `limitMs`. */
	async function pause(limitMs: number | undefined): Promise<void> {
		const signal = AbortSignal.any([state.wake.signal, stop]);
		if (signal.aborted) return;
		await sleep(limitMs ?? 2 ** 31 - 1, undefined, { signal, ref: false }).catch(() => {});
	}

	function describeState(): LinkState {
		const { enrolment, error, clockDifferenceMs } = state;
		const connected = state.session !== undefined;
		if (enrolment === undefined) return { enrolled: false, connected, ...(error && { error: error.toJSON() }) };
		return {
			enrolled: error?.code !== "identity-changed",
			connected,
			controller: enrolment.controllerUrl,
			agentId: enrolment.agentId,
			certificateExpiresAt: new Date(certificateEndMs(enrolment)).toISOString(),
			...(error === undefined ? {} : { error: error.toJSON() }),
			...(clockDifferenceMs === undefined ? {} : { clockDifferenceMs }),
		};
	}

	const finished = keepLinked();
	finished.catch((error: unknown) => log.error("the link gave up", { error }));
	return {
		get state() {
			return describeState();
		},
		get controller() {
			return state.enrolment === undefined ? undefined : controllerOf(state.enrolment);
		},
		reload() {
			backOff.reset();
			state.again = state.trying && isOnDisk(state.enrolment);
			if (state.again) return;
			state.wake.abort(new StillpointError("controller-unreachable", "the enrolment is read again"));
		},
		tell: (event) => void state.session?.send(event),
		async flush(limitMs) {
			const endMs = performance.now() + limitMs;
			const isDue = () => state.session !== undefined && ports.outbox.count(this.controller).due > 0;
			while (isDue() && performance.now() < endMs) await sleep(20);
		},
		async [Symbol.asyncDispose]() {
			stopped.abort(new StillpointError("stopping", "the service is stopping"));
			await finished;
		},
	};
}

/** A copy of a machine is another machine; its memory may have been copied, too, so this is asked for each connection. */
function requireSameMachine(enrolment: Enrolment, machine: MachineIdentity): void {
	const { agentId, identityChanged } = enrolment;
	if (identityChanged !== undefined) throw new StillpointError("identity-changed", identityChanged.reason);
	if (!isOtherMachine(enrolment.machine, lastingIdentity(machine))) return;
	const what = `this machine is a copy of the one that was enrolled as ${agentId}: its ids are others`;
	throw new StillpointError("identity-changed", what, { details: { seenHere: true } });
}

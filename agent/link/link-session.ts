/** One connection to the controller, from hello to its end. */
import { type AgentMessage, type ControllerMessage, linkProtocolVersion } from "../../contracts/controller-messages.ts";
import { asStillpointError, type ErrorCode, StillpointError } from "../../contracts/errors.ts";
import type { MachineIdentity } from "../../platform/linux/machine-identity.ts";
import { within } from "../../platform/within.ts";
import type { Asker } from "../asker.ts";
import type { Outbox } from "../job-records.ts";
import type { JobRunner } from "../job-runner.ts";
import type { Log } from "../log.ts";
import { parseControllerMessage } from "./controller-message.ts";
import { describeMachine } from "./enrolment.ts";
import { controllerOf, type Enrolment } from "./enrolment-file.ts";
import type { LinkConnection } from "./link-transport.ts";
import { makeMisfitAllowance } from "./misfit-allowance.ts";
import { makeOutboxSender } from "./outbox-sender.ts";

const welcomeLimitMs = 10_000;
const mostRequests = 8;

type Welcome = Extract<ControllerMessage, { type: "welcome" }>;

export type SessionPorts = {
	readonly log: Log;
	readonly version: string;
	readonly runner: JobRunner;
	readonly outbox: Outbox;
	/** Answers of `request`: what this controller may know. */
	readonly answers: { status(controller: string): Promise<unknown>; inventory(): Promise<unknown> };
};

export type SessionStart = {
	readonly connection: LinkConnection;
	readonly enrolment: Enrolment;
	readonly machine: MachineIdentity;
	readonly ticket: string | undefined;
	/** From here on anything may be said. */
	onWelcome(welcome: Welcome, session: LinkSession): void;
};

export type LinkSession = {
	/** False unless welcomed and connected. */
	send(message: AgentMessage): boolean;
	/** The certificate for the request, from the next `renewed`. @throws what the controller says, `deadline-passed` */
	renew(csr: string, limitMs: number): Promise<string>;
};

/**
 * Resolves with the reason when a connection that was welcomed has ended.
 * @throws why it was not welcomed: the controller's own error where it said one.
 */
export async function holdSession(ports: SessionPorts, start: SessionStart): Promise<StillpointError> {
	const { log, runner } = ports;
	const { connection, enrolment } = start;
	const controller = controllerOf(enrolment);
	const welcome = Promise.withResolvers<void>();
	const allowance = makeMisfitAllowance();
	const state = {
		welcomed: false,
		requests: 0,
		/** What the controller said last, if it ends the connection now. */
		said: undefined as StillpointError | undefined,
		renewal: undefined as PromiseWithResolvers<string> | undefined,
	};
	const send = (message: AgentMessage) => state.welcomed && connection.send(JSON.stringify(message));
	using sender = makeOutboxSender({
		outbox: ports.outbox,
		controller,
		send,
		waitingBytes: () => connection.waitingBytes,
		onSilent: () => connection.close(),
	});
	const asker: Asker = {
		kind: "link",
		controller,
		closed: connection.closed,
		// The report goes through the outbox.
		send: (event) => void (event.type === "report" || send(event)),
	};
	const session: LinkSession = {
		send,
		async renew(csr, limitMs) {
			state.renewal = Promise.withResolvers<string>();
			state.renewal.promise.catch(() => undefined);
			try {
				if (!send({ type: "renew", csr })) throw connection.closed.reason;
				return await within(state.renewal.promise, limitMs, "the new certificate", connection.closed);
			} finally {
				state.renewal = undefined;
			}
		},
	};

	function receive(text: string): void {
		try {
			const message = parseControllerMessage(text);
			if (message.type === "welcome") greet(message);
			else if (message.type === "error") hearError(message.error);
			else if (state.welcomed) handle(message);
			else throw new StillpointError("message-invalid", `${message.type} came before welcome`);
		} catch (error) {
			log.warn("the controller sent what does not fit; closing the link", { error });
			connection.close();
		}
	}

	function greet(message: Welcome): void {
		if (message.protocol !== linkProtocolVersion)
			throw new StillpointError("version-unsupported", `the controller speaks protocol ${message.protocol}`);
		if (state.welcomed) throw new StillpointError("message-invalid", "a second welcome");
		if (message.agentId !== enrolment.agentId)
			throw new StillpointError("message-invalid", "the welcome is for another agent");
		state.welcomed = true;
		welcome.resolve();
		start.onWelcome(message, session);
		sender.wake();
	}

	function hearError({ code, message }: Extract<ControllerMessage, { type: "error" }>["error"]): void {
		state.said = new StillpointError(code, message);
		if (!state.welcomed) welcome.reject(state.said);
		else if (state.renewal !== undefined) state.renewal.reject(state.said);
		else if (endsEnrolment(code)) return;
		else countMisfit("the controller reports an error", { error: state.said });
	}

	/** @throws `message-invalid` when there was too much of it. */
	function countMisfit(what: string, fields: Record<string, unknown>): void {
		if (!allowance.take()) throw new StillpointError("message-invalid", `too many messages of no use: ${what}`);
		log.warn(what, fields);
	}

	function handle(message: Exclude<ControllerMessage, { type: "welcome" | "error" }>): void {
		switch (message.type) {
			case "order":
				void runner.order(message.order, asker).then(send);
				return;
			case "ack":
				if (!sender.acknowledged(message.sequence))
					countMisfit("the controller acknowledged what was not sent", { sequence: message.sequence });
				return;
			case "request":
				void respond(message.requestId, message.method);
				return;
			case "renewed":
				if (state.renewal === undefined) countMisfit("a certificate came that was not asked for", {});
				else state.renewal.resolve(message.certificate);
				return;
			default:
				try {
					runner.command(message, asker);
				} catch (error) {
					const { type, jobId } = message;
					countMisfit("a command of the controller was refused", { type, jobId, error });
				}
		}
	}

	async function respond(requestId: string, method: "status" | "inventory"): Promise<void> {
		state.requests += 1;
		try {
			if (state.requests > mostRequests)
				throw new StillpointError("rate-limited", `more than ${mostRequests} requests at a time`);
			const result = await (method === "status" ? ports.answers.status(controller) : ports.answers.inventory());
			send({ type: "response", requestId, result });
		} catch (error) {
			send({ type: "response", requestId, error: asStillpointError(error).toJSON() });
		} finally {
			state.requests -= 1;
		}
	}

	connection.listen(receive);
	const running = runner.running?.asker;
	const runningJobId = running?.controller === controller ? runner.running?.order.jobId : undefined;
	connection.send(
		JSON.stringify({
			type: "hello",
			protocol: linkProtocolVersion,
			version: ports.version,
			machine: describeMachine(start.machine),
			time: new Date().toISOString(),
			...(runningJobId === undefined ? {} : { runningJobId }),
			...(start.ticket === undefined ? {} : { ticket: start.ticket }),
		} satisfies AgentMessage),
	);
	const ended = untilEnded(connection);
	await within(
		Promise.race([welcome.promise, ended.then((error) => Promise.reject(error))]),
		welcomeLimitMs,
		"the controller's welcome",
	);
	const error = await ended;
	return state.said !== undefined && endsEnrolment(state.said.code) ? state.said : error;
}

/** What the controller says to a connection that it welcomed before, and then ends it. */
function endsEnrolment(code: ErrorCode): boolean {
	return code === "certificate-revoked" || code === "not-enrolled";
}

function untilEnded({ closed }: LinkConnection): Promise<StillpointError> {
	return new Promise((resolve) => {
		const end = () => resolve(asStillpointError(closed.reason));
		if (closed.aborted) end();
		closed.addEventListener("abort", end, { once: true });
	});
}

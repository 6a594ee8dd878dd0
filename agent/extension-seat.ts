/** The place of an extension in its job: the one process that was started for it, and the one connection it may make. */
import { randomBytes, timingSafeEqual } from "node:crypto";
import { StillpointError } from "../contracts/errors.ts";
import type { ExtensionCommand } from "../contracts/extension.ts";
import { findProcessGroup } from "../platform/linux/process-identity.ts";
import type { LocalCaller } from "../platform/local-channel.ts";
import type { ExtensionProcess } from "./extension-host/run-snapshot.ts";
import type { Log } from "./log.ts";

export type ExtensionEnd = Awaited<ExtensionProcess["exited"]>;

export type ExtensionSeat = {
	/** Of the request; what is said with another one is refused. */
	readonly token: string;
	readonly attached: boolean;
	/** @throws `not-allowed` for a wrong token. */
	checkToken(given: string): void;
	/** @throws `not-allowed` for a second one. */
	attach(caller: LocalCaller): void;
	/** False when it is not attached, or gone. */
	tell(command: ExtensionCommand): boolean;
	/** Resolves when it is reaped, or when it was ended and a disk keeps it in the kernel. */
	run(process: ExtensionProcess): Promise<ExtensionEnd>;
	end(why: string): void;
	/** @throws `message-invalid`: the agent ends the freezer in need, so it must be a process of the extension, or gone. */
	requireOwn(pid: number): void;
	describe(end: ExtensionEnd): StillpointError;
};

/**
 * From SIGKILL until its process must be gone. One that a disk keeps in the kernel acts no more when it wakes: where
 * nothing can be frozen, the queue need not wait for it. (A freezer is waited for: it would complete a freeze.)
 */
const reapLimitMs = 5_000;

export function makeExtensionSeat({ jobId, log }: { jobId: string; log: Log }): ExtensionSeat {
	const token = randomBytes(32).toString("hex");
	const unreapable = Promise.withResolvers<ExtensionEnd>();
	const state = {
		caller: undefined as LocalCaller | undefined,
		process: undefined as ExtensionProcess | undefined,
		endedBy: undefined as string | undefined,
		reapLimit: undefined as NodeJS.Timeout | undefined,
	};
	return {
		token,
		get attached() {
			return state.caller !== undefined;
		},
		checkToken(given) {
			const [known, other] = [Buffer.from(token), Buffer.from(given)];
			if (known.length !== other.length || !timingSafeEqual(known, other))
				throw new StillpointError("not-allowed", "the token belongs to no running job");
		},
		attach(caller) {
			if (state.caller !== undefined) throw new StillpointError("not-allowed", "the extension is attached already");
			state.caller = caller;
		},
		tell: (command) => state.caller?.notify("extension.command", command) ?? false,
		async run(process) {
			state.process = process;
			try {
				return await Promise.race([process.exited, unreapable.promise]);
			} finally {
				clearTimeout(state.reapLimit);
				process.endInput();
			}
		},
		end(why) {
			state.endedBy ??= why;
			log.error("ending the extension process", { jobId, why, pid: state.process?.pid });
			if (state.process === undefined) return;
			state.process.kill();
			state.reapLimit ??= setTimeout(() => {
				log.error("a disk keeps the extension process from ending; the job ends without it", { jobId });
				unreapable.resolve({ exitCode: null, signal: null, outputTail: "" });
			}, reapLimitMs);
		},
		requireOwn(pid) {
			const group = findProcessGroup(pid);
			if (group !== undefined && group !== state.process?.pid)
				throw new StillpointError("message-invalid", `process ${pid} is none of the extension's`);
		},
		describe({ exitCode, signal, outputTail }) {
			const how = signal === null ? `exit status ${exitCode}` : `signal ${signal}`;
			const why = state.endedBy === undefined ? "" : ` (${state.endedBy})`;
			const what = `the extension process ended without a report: ${how}${why}`;
			return new StillpointError("extension-failed", what, { details: { outputTail } });
		},
	};
}

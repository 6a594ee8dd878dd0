import { type ErrorTraits, errorCatalogue, exitStatuses } from "./error-catalogue.ts";

export { errorCatalogue, exitStatuses };

export type ErrorCode = keyof typeof errorCatalogue;

export const errorCodes = Object.keys(errorCatalogue) as [ErrorCode, ...ErrorCode[]];

/** Every expected failure. `message` is for people; `code` is for programs; `details` are plain JSON. */
export class StillpointError extends Error {
	override readonly name = "StillpointError";
	readonly code: ErrorCode;
	readonly details: Readonly<Record<string, unknown>>;

	/** @param what where and what, without a final full stop; the catalogue adds what to do. */
	constructor(code: ErrorCode, what: string, options: { cause?: unknown; details?: Record<string, unknown> } = {}) {
		super(what, options.cause === undefined ? undefined : { cause: options.cause });
		this.code = code;
		this.details = options.details ?? {};
	}

	get traits(): ErrorTraits {
		return errorCatalogue[this.code];
	}

	/** The shape of an error in reports, on the wire and in `--json` output. */
	toJSON(): {
		code: ErrorCode;
		message: string;
		remedy: string;
		retryable: boolean;
		details?: Record<string, unknown>;
	} {
		const { retryable, remedy } = this.traits;
		const details = Object.keys(this.details).length > 0 ? { details: { ...this.details } } : {};
		return { code: this.code, message: this.message, remedy, retryable, ...details };
	}
}

/** Any thrown value as a `StillpointError`: what is not ours is a bug, `internal`. */
export function asStillpointError(error: unknown): StillpointError {
	if (error instanceof StillpointError) return error;
	return new StillpointError("internal", error instanceof Error ? error.message : String(error), { cause: error });
}

/**
 * The gravest error in a chain of causes, aggregates and suppressed errors (what a failing `await using` leaves).
 * Whatever says that something may still be frozen outranks all; after that the outermost counts.
 */
export function worstError(error: unknown): StillpointError {
	const found = [...flatten(error, new Set())];
	const frozen = found.find((one) => one.traits.exit === 9);
	return frozen ?? found[0] ?? asStillpointError(error);
}

function* flatten(error: unknown, seen: Set<unknown>): Generator<StillpointError> {
	if (!(error instanceof Error) || seen.has(error)) return;
	seen.add(error);
	if (error instanceof StillpointError) yield error;
	if (error instanceof SuppressedError) {
		yield* flatten(error.suppressed, seen);
		yield* flatten(error.error, seen);
	}
	if (error instanceof AggregateError) for (const one of error.errors) yield* flatten(one, seen);
	yield* flatten(error.cause, seen);
}

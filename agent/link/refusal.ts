import { StillpointError } from "../../contracts/errors.ts";
import { certificateEndMs } from "./certificate-renewal.ts";
import type { Enrolment } from "./enrolment-file.ts";

/** Refusals that only a person can end: the agent says so, and asks again once in a long while. */
const lasting = ["certificate-revoked", "identity-changed", "not-enrolled", "certificate-invalid", "state-unusable"];

export function isLastingRefusal({ code }: StillpointError): boolean {
	return lasting.includes(code);
}

/**
 * A refused certificate is expired, or one of the clocks is wrong, or neither. Which one is told by the time that the
 * controller says in its answer.
 */
export function explainRefusal(error: StillpointError, enrolment: Enrolment, now: Date): StillpointError {
	if (error.code !== "certificate-invalid") return error;
	const endMs = certificateEndMs(enrolment);
	const until = new Date(endMs).toISOString();
	const here = now.toISOString();
	if (endMs < now.getTime()) {
		const what = `the certificate of this agent expired on ${until}, and it is ${here}`;
		return new StillpointError("certificate-invalid", what, { cause: error, details: { expired: true, until } });
	}
	const controllerTime = error.details["controllerTime"];
	if (!/EXPIRED|NOT_YET_VALID/.test(error.message) || typeof controllerTime !== "string") return error;
	const what =
		`the controller's clock says ${controllerTime} and the clock here ${here}; ` +
		`the certificate of this agent is good until ${until}`;
	return new StillpointError("clock-wrong", what, { cause: error, details: { controllerTime, here, until } });
}

/** Whether a person must give this machine a new identity. Whoever was revoked or removed was so by a person. */
export function needsEnrolment({ code, details }: StillpointError): boolean {
	return code === "identity-changed" || (code === "certificate-invalid" && details["expired"] === true);
}

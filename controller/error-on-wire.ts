import type { StillpointError } from "../contracts/errors.ts";

const mostMessage = 4_096;
const mostDetails = 16_384;

/** An error as it is stored, shown and sent: parts of it come from agents, which may say megabytes. */
export function errorOnWire(error: StillpointError): ReturnType<StillpointError["toJSON"]> {
	const { details, ...shape } = error.toJSON();
	const short = { ...shape, message: shape.message.slice(0, mostMessage) };
	return details === undefined || JSON.stringify(details).length > mostDetails ? short : { ...short, details };
}

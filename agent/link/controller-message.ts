import { checkShape } from "../../contracts/check-shape.ts";
import { type ControllerMessage, controllerMessageSchema } from "../../contracts/controller-messages.ts";
import { StillpointError } from "../../contracts/errors.ts";

/**
 * An order that is not understood is refused by the runner, with its job id; any other misfit ends the connection.
 * @throws `message-invalid`
 */
export function parseControllerMessage(text: string): ControllerMessage {
	let value: unknown;
	try {
		value = JSON.parse(text);
	} catch (cause) {
		throw new StillpointError("message-invalid", "a frame is no JSON", { cause });
	}
	if (typeof value === "object" && value !== null && "type" in value && value.type === "order" && "order" in value)
		return { type: "order", order: value.order } as ControllerMessage;
	const message = checkShape(controllerMessageSchema, value);
	if (message.success) return message.data;
	const issue = message.error.issues[0];
	throw new StillpointError("message-invalid", `${issue?.path.join(".") || "(all)"}: ${issue?.message}`);
}

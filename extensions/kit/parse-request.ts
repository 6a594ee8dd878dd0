import { checkShape } from "../../contracts/check-shape.ts";
import { StillpointError } from "../../contracts/errors.ts";
import { type SnapshotRequest, snapshotRequestSchema } from "../../contracts/extension.ts";

/** @throws `message-invalid` naming the field. */
export function parseRequest(line: string): SnapshotRequest {
	let content: unknown;
	try {
		content = JSON.parse(line);
	} catch (cause) {
		throw new StillpointError("message-invalid", "the request is not JSON", { cause });
	}
	const parsed = checkShape(snapshotRequestSchema, content);
	if (parsed.success) return parsed.data;
	const issues = parsed.error.issues.map((issue) => `${issue.path.map(String).join(".")}: ${issue.message}`);
	throw new StillpointError("message-invalid", `the request: ${issues.join("; ")}`, { details: { issues } });
}

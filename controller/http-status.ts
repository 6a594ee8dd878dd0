import { type ErrorCode, errorCatalogue } from "../contracts/errors.ts";

const statuses: Partial<Record<ErrorCode, number>> = {
	"not-found": 404,
	"method-not-allowed": 405,
	"job-unknown": 404,
	"recovery-point-invalid": 422,
	"not-allowed": 403,
	"token-invalid": 403,
	"certificate-invalid": 403,
	"certificate-revoked": 403,
	"identity-changed": 403,
	"clock-wrong": 403,
	"not-enrolled": 403,
	"message-too-large": 413,
	"job-running": 409,
	"job-conflict": 409,
	"name-taken": 409,
	"disk-not-mapped": 409,
	"rate-limited": 429,
	"agent-offline": 503,
	stopping: 503,
	"deadline-passed": 504,
	"disk-full": 507,
};

/** By the code, else by the exit status of the catalogue: 2 is the caller's fault. */
export function httpStatusOf(code: ErrorCode): number {
	return statuses[code] ?? (errorCatalogue[code].exit === 2 ? 400 : code === "internal" ? 500 : 422);
}

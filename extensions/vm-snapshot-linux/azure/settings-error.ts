import { asStillpointError, type StillpointError } from "../../../contracts/errors.ts";
import { azureError } from "./azure-codes.ts";

/** Azure has a code of its own for protected settings whose key is not there or does not fit. */
export function asSettingsError(thrown: unknown): StillpointError {
	const error = asStillpointError(thrown);
	if (error.code !== "settings-invalid" || error.details["azureCode"] !== undefined) return error;
	return azureError("settings-invalid", /protectedSettings/.test(error.message) ? 16 : 11, error.message, error);
}

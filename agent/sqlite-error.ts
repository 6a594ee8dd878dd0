import { type ErrorCode, StillpointError } from "../contracts/errors.ts";

/** Primary result codes of SQLite (sqlite.org/rescode.html): the low byte of the extended ones. */
const codes: Readonly<Record<number, ErrorCode>> = {
	1: "journal-corrupt", // SQLITE_ERROR: our statements are right, so a table is missing or the format is not known
	5: "already-running", // SQLITE_BUSY
	8: "state-unusable", // SQLITE_READONLY
	10: "state-unusable", // SQLITE_IOERR
	11: "journal-corrupt", // SQLITE_CORRUPT
	13: "disk-full", // SQLITE_FULL
	14: "state-unusable", // SQLITE_CANTOPEN
	26: "journal-corrupt", // SQLITE_NOTADB
};

/** SQLITE_IOERR_WRITE and its kind come with ENOSPC when the rollback journal does not fit. */
const ioErrorsOfFullDisk = new Set([778, 1034, 1290, 4874]);

/** Total: what SQLite says and we do not know is `internal`. */
export function asSqliteError(error: unknown, path: string): StillpointError {
	if (error instanceof StillpointError) return error;
	const errcode = error instanceof Error && "errcode" in error ? Number(error.errcode) : Number.NaN;
	const code = ioErrorsOfFullDisk.has(errcode) ? "disk-full" : (codes[errcode & 0xff] ?? "internal");
	const text = error instanceof Error ? error.message : String(error);
	return new StillpointError(code, `${path}: ${text}`, { cause: error, details: { path } });
}

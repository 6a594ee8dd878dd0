/** What the controller tells about itself; a winston logger fits. Static message, facts in the fields, never a secret. */
export type Log = {
	debug(message: string, fields?: Record<string, unknown>): void;
	info(message: string, fields?: Record<string, unknown>): void;
	warn(message: string, fields?: Record<string, unknown>): void;
	error(message: string, fields?: Record<string, unknown>): void;
};

export type ClusterFacts = {
	/** What the cluster was in when the copy was made: of one that runs, always "in production" or "in archive recovery". */
	state: string;
	checkpoint: string;
};

/** Source: src/include/catalog/pg_control.h of PostgreSQL, DBState; the fields up to `checkPoint` lie so since 8.4. */
const states = [
	"starting up",
	"shut down",
	"shut down in recovery",
	"shutting down",
	"in crash recovery",
	"in archive recovery",
	"in production",
] as const;
const fileBytes = 8192;

/** @param bytes of `global/pg_control`, of a little-endian machine. undefined: no control file, or one that is cut. */
export function parseControlFile(bytes: Buffer): ClusterFacts | undefined {
	if (bytes.length !== fileBytes) return undefined;
	const version = bytes.readUInt32LE(8);
	const state = states[bytes.readUInt32LE(16)];
	if (version < 800 || version > 9999 || state === undefined) return undefined;
	const checkpoint = bytes.readBigUInt64LE(32);
	const half = (value: bigint) => value.toString(16).toUpperCase();
	return { state, checkpoint: `${half(checkpoint >> 32n)}/${half(checkpoint & 0xffffffffn)}` };
}

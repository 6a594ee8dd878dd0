import { stepFunction } from "./step-output.ts";

/**
 * No configuration of the guest is read; without grant tables the server loads none of the plugins and functions that
 * the guest's tables name, and runs no events. Its binary log decides on transactions that were being committed, so it
 * is named where there is one.
 * @param files of the data folder, relative to it.
 * @param systemBytes of ibdata1: the server refuses one that is smaller than what it is told, which is 12 MiB else.
 */
export function serverArguments(files: readonly string[], pageBytes: number, systemBytes: number): string[] {
	const log = files.find((name) => /^[\w.-]+\.index$/.test(name) && hasLogs(files, name.slice(0, -".index".length)));
	const systemMiB = Math.floor(systemBytes / 2 ** 20);
	const undoLogs = files.filter((name) => /^undo\d{3}$/.test(name)).length;
	return [
		"--no-defaults",
		"--datadir=/copy/data",
		"--socket=/run/socket",
		"--pid-file=/run/pid",
		"--log-error=/copy/server.log",
		"--tmpdir=/tmp",
		"--plugin-dir=/run",
		"--secure-file-priv=/tmp",
		"--local-infile=0",
		"--skip-networking",
		"--skip-grant-tables",
		"--skip-slave-start",
		"--skip-symbolic-links",
		// So that nothing that opens a damaged table before CHECK TABLE does mends it unseen.
		"--myisam-recover-options=OFF",
		"--aria-recover-options=OFF",
		"--event-scheduler=OFF",
		"--performance-schema=OFF",
		"--innodb-buffer-pool-dump-at-shutdown=OFF",
		"--innodb-buffer-pool-load-at-startup=OFF",
		"--innodb-flush-log-at-trx-commit=0",
		`--innodb-page-size=${pageBytes}`,
		...(systemMiB < 12 ? [`--innodb-data-file-path=ibdata1:${Math.max(5, systemMiB)}M:autoextend`] : []),
		...(undoLogs > 0 ? [`--innodb-undo-tablespaces=${Math.min(undoLogs, 127)}`] : []),
		...(log === undefined
			? ["--skip-log-bin"]
			: [`--log-bin=/copy/data/${log.slice(0, -".index".length)}`, "--server-id=1"]),
	];
}

/** A relay log has an index, too; it is a replica's and says nothing of its own transactions. */
function hasLogs(files: readonly string[], base: string): boolean {
	return !/relay/.test(base) && files.some((name) => name.startsWith(`${base}.`) && /\.\d{6,}$/.test(name));
}

/**
 * Arguments: the mark of the steps, the client, the program for checksums (or nothing), the server and its arguments.
 * CHECK TABLE does not read long values, which lie in pages of their own: their checksums are looked at afterwards.
 */
export const checkScript = `${stepFunction}
mark=$1 client=$2 sums=$3; shift 3
ask() { "$client" --no-defaults --socket=/run/socket --user=root --skip-column-names --batch --raw --binary-mode --default-character-set=utf8mb4 "$@"; }
"$@" >/dev/null 2>&1 &
server=$!
wait_for_it() {
	until ask --execute='SELECT 1' >/dev/null 2>&1; do
		kill -0 "$server" 2>/dev/null || { tail -n 200 /copy/server.log; return 1; }
		sleep 0.2
	done
}
step start wait_for_it || exit 0
list() {
	ask --execute="SELECT CONCAT('CHECK TABLE \\\`', REPLACE(TABLE_SCHEMA, '\\\`', '\\\`\\\`'), '\\\`.\\\`', REPLACE(TABLE_NAME, '\\\`', '\\\`\\\`'), '\\\`;')
		FROM information_schema.TABLES WHERE TABLE_TYPE IN ('BASE TABLE', 'SYSTEM VERSIONED', 'SEQUENCE')
		AND TABLE_SCHEMA NOT IN ('information_schema', 'performance_schema')" >/copy/check.sql
}
step list list && step check ask --force </copy/check.sql
step log tail -n 100 /copy/server.log
checksums() { find /copy/data -mindepth 2 -name '*.ibd' -size +0 -exec sh -c 'for file; do "$0" "$file" 2>&1 || echo "wrong checksum $file"; done' "$sums" {} + | grep -a '^wrong checksum' | head -n 100; }
if [ -n "$sums" ] && ask --execute=SHUTDOWN; then
	wait "$server"
	step checksums checksums
else
	kill -9 "$server"
fi`;

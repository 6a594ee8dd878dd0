import { stepFunction } from "./step-output.ts";

/**
 * All that the server is told: nothing of the guest's own. Values that recovery needs (prepared transactions, slots,
 * the marks of logical replication) are at least as large as theirs.
 */
export function serverSettings(options: { major: number; endsRecovery: boolean; slots: number }): string {
	const slots = Math.min(10_000, options.slots + 1_000);
	return [
		"hba_file = '/copy/pg_hba.conf'",
		"ident_file = '/copy/pg_ident.conf'",
		"listen_addresses = ''",
		"unix_socket_directories = '/run'",
		"logging_collector = off",
		"log_destination = 'stderr'",
		"lc_messages = 'C'",
		"ssl = off",
		"shared_preload_libraries = ''",
		"session_preload_libraries = ''",
		"local_preload_libraries = ''",
		"dynamic_library_path = '$libdir'",
		"jit = off",
		"archive_mode = off",
		"autovacuum = off",
		"fsync = off",
		"synchronous_commit = off",
		"restart_after_crash = off",
		"hot_standby = off",
		"max_connections = 20",
		"wal_level = logical",
		"max_wal_senders = 0",
		"max_logical_replication_workers = 0",
		`max_replication_slots = ${slots}`,
		...(options.major >= 17 ? ["event_triggers = off"] : []),
		...(options.major >= 18 ? ["max_active_replication_origins = 1000"] : []),
		// Ends recovery where the WAL that it has ends, after the point from which it is consistent.
		...(options.endsRecovery ? ["restore_command = '/bin/false'"] : []),
		"",
	].join("\n");
}

/** Everybody who reaches the socket of the confined server may be anybody in it. */
export const accessRules = "local all all trust\n";

/** Arguments: the folder of the programs, the mark of the steps, seconds for a start or a stop. */
export const checkScript = `${stepFunction}
bin=$1 mark=$2 seconds=$3 cluster=/copy/cluster user=postgres role=stillpoint_verification
# Settings of databases and roles are the guest's, and lie in the data: those that hide damage, or end a check, come second.
export PGHOST=/run PGOPTIONS='-c statement_timeout=0 -c lock_timeout=30000 -c default_transaction_read_only=off -c row_security=off -c zero_damaged_pages=off -c ignore_checksum_failure=off -c ignore_system_indexes=off -c lc_messages=C -c client_min_messages=notice'
export PGCONNECT_TIMEOUT=60 PSQLRC=/dev/null
ask() { "$bin/psql" -X -A -t -q -U "$user" -d template1 -c "$1"; }
start() { "$bin/pg_ctl" start --silent --wait --timeout="$seconds" -D $cluster -l /copy/server.log -o '-c config_file=/copy/postgresql.conf' >/dev/null; }
stop() { "$bin/pg_ctl" stop --silent --wait --mode=fast --timeout="$seconds" -D $cluster; }
start_or_say() { start || { code=$?; tail -n 100 /copy/server.log; return $code; }; }
# A cluster can have more faults than anybody wants to hear of.
limited() { "$@" >/copy/said 2>&1; code=$?; head -c 200000 /copy/said; return $code; }
make_role() {
	echo "create role $role superuser login" | "$bin/postgres" --single -c config_file=/copy/postgresql.conf -D $cluster template1
}
step control "$bin/pg_controldata" -D $cluster
prepared=$("$bin/pg_controldata" -D $cluster | sed -n 's/^max_prepared_xacts setting: *\\([0-9]*\\)$/\\1/p')
[ "\${prepared:-0}" -le 10000 ] || prepared=10000
echo "max_prepared_transactions = \${prepared:-0}" >>/copy/postgresql.conf
step start start_or_say || exit 0
if [ "$(ask 'show is_superuser' 2>/dev/null)" != on ]; then
	stop && step role make_role && start || { step no-role tail -n 20 /copy/server.log; exit 0; }
	user=$role
fi
if [ "$("$bin/psql" --version | sed 's/[^0-9]*\\([0-9]*\\).*/\\1/')" -ge 15 ]; then
	other='datcollversion is distinct from pg_catalog.pg_database_collation_actual_version(oid)'
else
	other="datcollate not in ('C', 'POSIX')"
fi
# Also what nobody may enter is restored. -2: a DROP DATABASE that did not end.
step enter ask "update pg_catalog.pg_database set datallowconn = true where not datallowconn and datconnlimit <> -2"
step databases ask "select count(*) from pg_catalog.pg_database where datallowconn"
step collations ask "select datname from pg_catalog.pg_database where $other"
if [ -x "$bin/pg_amcheck" ]; then
	step amcheck limited "$bin/pg_amcheck" -U "$user" --all --install-missing --heapallindexed
else
	dump() { "$bin/pg_dumpall" -U "$user" --no-sync >/dev/null; }
	step dump dump
fi
[ $? = 0 ] || step log tail -n 50 /copy/server.log
step stop stop
if "$bin/pg_controldata" -D $cluster | grep -q '^Data page checksum version: *[1-9]'; then
	step checksums limited "$bin/pg_checksums" --check -D $cluster
fi`;

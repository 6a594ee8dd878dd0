/** What checkers of databases say. */
export const databaseOutputs = [
	`MARK begin start
waiting for server to start.... done
server started

MARK end start 0
MARK begin databases
3

MARK end databases 0
MARK begin amcheck
heap table "shop.public.orders", block 12, offset 5:
    xmin 7 precedes oldest valid transaction ID
pg_amcheck: error: something
DETAIL:  more

MARK end amcheck 2
MARK begin checksums
Blocks scanned: 1234
pg_checksums: error: checksum verification failed in file "base/1/2", block 3

MARK end checksums 1
`,
	`MARK begin start
2026-11-20 [ERROR] InnoDB: corrupted page
got signal 11

MARK end start 1
MARK begin check
shop.orders\tcheck\tstatus\tOK
shop.lines\tcheck\tError\tTable is crashed
ERROR 2013 (HY000): Lost connection

MARK end check 1
`,
	"[offset 0] Checking RDB file dump.rdb\n[offset 27] AUX FIELD redis-ver = '7.0'\n[info] 5 keys read\n--- RDB ERROR DETECTED ---\n[offset 99] Internal error: Expected EOF\n",
];

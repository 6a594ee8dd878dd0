/**
 * `node database-check-program.ts FILE`: opens a private copy of a SQLite database from an image and says in one line
 * of JSON what its own checks find. A process of its own: the bytes come from a guest and the checks can take long.
 */
import { DatabaseSync } from "node:sqlite";

function check(path: string): { integrity: string[]; foreignKeys: number; tables: number } {
	using database = new DatabaseSync(path, { allowExtension: false, enableDoubleQuotedStringLiterals: true });
	database.exec("PRAGMA trusted_schema=OFF");
	const integrity = database.prepare("PRAGMA integrity_check(5)").all();
	const broken = database.prepare("PRAGMA foreign_key_check").all();
	const tables = database.prepare("SELECT count(*) AS n FROM sqlite_schema WHERE type = 'table'").get();
	return {
		integrity: integrity.map((row) => String(row["integrity_check"])),
		foreignKeys: broken.length,
		tables: Number(tables?.["n"] ?? 0),
	};
}

try {
	process.stdout.write(`${JSON.stringify(check(process.argv[2] ?? ""))}\n`);
} catch (error) {
	process.stdout.write(`${JSON.stringify({ error: error instanceof Error ? error.message : String(error) })}\n`);
}

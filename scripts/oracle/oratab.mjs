/** The instances of this machine by Oracle's own table: lines SID:HOME:Y|N, `#` begins a comment. */
import { readFileSync } from "node:fs";
import { exits, HoldError } from "../kit/hold-session.mjs";

const places = ["/etc/oratab", "/var/opt/oracle/oratab"];

/** @returns {{ sid: string, oracleHome: string }}. @throws HoldError `config` */
export function findInstance({ sid, oracleHome, oratab }) {
	if (sid !== undefined && oracleHome !== undefined) return { sid, oracleHome };
	const entries = readOratab(oratab === undefined ? places : [oratab]);
	const fitting = entries.filter((entry) => sid === undefined || entry.sid === sid);
	if (fitting.length === 1) return { sid: fitting[0].sid, oracleHome: oracleHome ?? fitting[0].oracleHome };
	const known = entries.map((entry) => entry.sid).join(", ") || "none";
	throw new HoldError(exits.config, `name the instance by --sid and --oracle-home: oratab knows ${known}`);
}

/** Instances of ASM begin with +, and * is none. */
function readOratab(paths) {
	for (const path of paths) {
		try {
			const lines = readFileSync(path, "utf8").split("\n");
			return lines
				.map((line) => line.trim().split(":"))
				.filter(([sid, home]) => /^[A-Za-z]\w*$/.test(sid) && home?.startsWith("/"))
				.map(([sid, oracleHome]) => ({ sid, oracleHome }));
		} catch (error) {
			if (error.code !== "ENOENT") throw new HoldError(exits.config, `${path}: ${error.message}`);
		}
	}
	return [];
}

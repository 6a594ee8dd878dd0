import type { Verdict } from "../found-file-system.ts";
import { firstLine } from "../image-tools.ts";
import type { Steps } from "./step-output.ts";

/** What says something of this host or of the server that is installed, and nothing of the data. */
const ofThisHost =
	/No space left|out of memory|Cannot allocate|Upgrade after a crash is not supported|Unsupported redo log|redo log was created with|Unknown storage engine|is not loaded|cannot be decrypted|can't be decrypted|is encrypted|key_id|Unknown collation|Unknown character set|prepared transactions|Unable to open undo tablespace|unknown variable|unknown option/i;

/** @param steps of the check script, in mariadb-script.ts. */
export function judgeServer(steps: Steps): Verdict {
	const start = steps.get("start");
	if (!start) return { status: "unknown", detail: "its server did not come as far as to answer" };
	if (start.exitCode !== 0) return judgeLog(start.output, "it does not start");
	const [list, check] = [steps.get("list"), steps.get("check")];
	const log = steps.get("log")?.output ?? "";
	if (list?.exitCode !== 0) return judgeLog(`${log}\n[ERROR] ${list?.output ?? ""}`, "its tables can't be listed");
	if (!check) return { status: "unknown", detail: "the check of its tables did not end" };
	const { tables, faults, lost } = parseChecks(check.output);
	const own = faults.filter((one) => !ofThisHost.test(one));
	if (own.length > 0) {
		return {
			status: "fail",
			detail: `CHECK TABLE finds ${own.length} faults: ${own.slice(0, 2).join("; ").slice(0, 400)}`,
		};
	}
	if (lost !== undefined) return judgeLog(`${log}\n[ERROR] ${lost}`, "its server died of the check");
	if (faults.length > 0) {
		return { status: "unknown", detail: `${faults.length} tables can't be looked at: ${faults[0]?.slice(0, 300)}` };
	}
	const sums = steps.get("checksums");
	if (sums?.output) {
		const wrong = sums.output.split("\n").map((line) => line.replace(/^wrong checksum \/copy\/data\//, ""));
		return { status: "fail", detail: `innochecksum finds wrong pages: ${wrong.slice(0, 3).join(", ")}`.slice(0, 400) };
	}
	const pages = sums ? ", all checksums of their pages are right" : "; checksums of pages were not looked at";
	return { status: "pass", detail: `recovery ran, CHECK TABLE finds nothing in ${tables} tables${pages}` };
}

function judgeLog(log: string, what: string): Verdict {
	const lines = log.split("\n").filter((line) => /\[ERROR\]|got signal/.test(line));
	const [line] = lines;
	if (line === undefined) return { status: "unknown", detail: `${what}: ${firstLine(log)}` };
	const why = line.replace(/^.*?\[ERROR\] */, "").slice(0, 300);
	return { status: ofThisHost.test(lines.join("\n")) ? "unknown" : "fail", detail: `${what}: ${why}` };
}

/**
 * @param output rows of table, operation, kind and text of CHECK TABLE, and errors of the client. A table that was not
 * closed is a warning, and a storage engine without a check a note.
 */
export function parseChecks(output: string): { tables: number; faults: string[]; lost: string | undefined } {
	const faults = new Map<string, string>();
	let tables = 0;
	let lost: string | undefined;
	for (const line of output.split("\n")) {
		const [table = "", operation, kind, ...text] = line.split("\t");
		if (operation === "check") {
			if (kind === "status") tables += 1;
			const isFault =
				kind?.toLowerCase() === "error" ||
				(kind === "status" && !/^(OK|Table is already up to date)$/.test(text[0] ?? ""));
			if (isFault && !faults.has(table)) faults.set(table, `${table}: ${text.join(" ")}`);
		} else if (/^ERROR (2002|2006|2013|1927)\b/.test(line)) lost = line;
		else if (line.startsWith("ERROR ")) faults.set(line, line);
	}
	return { tables, faults: [...faults.values()], lost };
}

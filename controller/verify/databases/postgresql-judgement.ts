import type { Verdict } from "../found-file-system.ts";
import { firstLine } from "../image-tools.ts";
import type { Steps } from "./step-output.ts";

/** What says something of this host, and nothing of the cluster. */
const ofThisHost =
	/shared memory|No space left|out of memory|Cannot allocate|could not (load|access) (library|file "\$libdir)|resource manager with ID|(is|are) incompatible with|not supported by|directory "\/(?!copy\/).*" does not exist|lock timeout|is not available|not compatible|could not open extension|terminated by signal 9/i;
/** What a recovery says that waits for WAL of an archive or a primary. */
const wantsMoreWal =
	/WAL ends before|could not locate (a valid|required) checkpoint|requested timeline|recovery ended before/;
/** An index that is sorted by the rules of another C library looks so, and may be sound. */
const aboutOrder = /item order invariant|high key invariant|lower bound invariant/;

/** @param steps of the check script, in postgresql-script.ts. */
export function judgeCluster(steps: Steps, copy: { endsRecovery: boolean; fromBackup: boolean }): Verdict {
	const start = steps.get("start");
	if (!start) return { status: "unknown", detail: "its server did not come as far as to answer" };
	if (start.exitCode !== 0) return judgeStart(start.output, copy.endsRecovery || copy.fromBackup);
	const refused = steps.get("no-role");
	if (refused) return { status: "unknown", detail: `it lets nobody in: ${firstLine(refused.output)}` };
	const checksums = steps.get("checksums");
	const rows = judgeRows(steps);
	const verdicts = [rows, ...(checksums ? [judgeChecksums(checksums)] : [])];
	const worst = verdicts.find(({ status }) => status === "fail") ?? verdicts.find(({ status }) => status === "unknown");
	const how = [
		copy.endsRecovery ? "recovery ran and was ended as by a promotion" : "recovery ran",
		...(copy.fromBackup ? ["from its backup_label"] : []),
	].join(" ");
	if (worst) return { ...worst, detail: `${how}; ${worst.detail}` };
	const sums = checksums ? verdicts[1]?.detail : "it has no page checksums";
	return { status: "pass", detail: `${how}, ${rows.detail}, ${sums}` };
}

function judgeStart(log: string, expectsWal: boolean): Verdict {
	const lines = log.split("\n").filter((line) => /(FATAL|PANIC):|terminated by signal/.test(line));
	const [line] = lines;
	if (line === undefined) return { status: "unknown", detail: "recovery did not end in time" };
	const why = line.replace(/^.*?(FATAL|PANIC|LOG): */, "").slice(0, 300);
	if (ofThisHost.test(lines.join("\n"))) return { status: "unknown", detail: `it can't be started here: ${why}` };
	if (expectsWal && wantsMoreWal.test(lines.join("\n"))) {
		return { status: "unknown", detail: `recovery needs WAL that is not in the cluster: ${why}` };
	}
	return { status: "fail", detail: `it does not start: ${why}` };
}

function judgeRows(steps: Steps): Verdict {
	const amcheck = steps.get("amcheck");
	const dump = steps.get("dump");
	const done = amcheck ?? dump;
	if (!done) return { status: "unknown", detail: "the check of its tables did not end" };
	if (done.exitCode === 0) {
		const databases = steps.get("databases")?.output;
		const what = amcheck ? "pg_amcheck finds nothing" : "pg_dumpall reads every row (there is no pg_amcheck before 14)";
		return { status: "pass", detail: `${what} in ${databases} databases` };
	}
	const wasKilled = /terminated by signal 9/.test(steps.get("log")?.output ?? "");
	const others = steps.get("collations");
	const sortsAlike = others?.exitCode === 0 && others.output === "";
	const complaints = parseComplaints(done.output);
	const faults = complaints.filter((one) => !ofThisHost.test(one) && (sortsAlike || !aboutOrder.test(one)));
	const tool = amcheck ? "pg_amcheck" : "pg_dumpall";
	if (faults.length > 0 && !wasKilled) {
		return {
			status: "fail",
			detail: `${tool} finds ${faults.length} faults: ${faults.slice(0, 2).join("; ").slice(0, 400)}`,
		};
	}
	const why = sortsAlike ? "" : " (text is sorted by other rules than this host's)";
	return {
		status: "unknown",
		detail: `${tool} can't look at all${why}: ${complaints[0]?.slice(0, 300) ?? "no message"}`,
	};
}

/** What pg_amcheck says: a line that names the relation, and indented lines about it; or a line of its own. */
export function parseComplaints(output: string): string[] {
	const complaints: string[] = [];
	for (const line of output.split("\n")) {
		if (
			line.trim() === "" ||
			line.startsWith("WARNING:") ||
			/^(DETAIL|HINT|CONTEXT|LOCATION):|^\s+(DETAIL|HINT|CONTEXT):/.test(line)
		)
			continue;
		const isMore = /^\s/.test(line) && complaints.length > 0;
		if (isMore) complaints.push(`${complaints.pop()} ${line.trim()}`);
		else complaints.push(line.trim());
	}
	return complaints;
}

function judgeChecksums({ exitCode, output }: { exitCode: number; output: string }): Verdict {
	const blocks = /Blocks scanned: *(\d+)/.exec(output)?.[1];
	if (exitCode === 0) return { status: "pass", detail: `all checksums of ${blocks ?? "its"} blocks are right` };
	const bad = output.split("\n").filter((line) => line.includes("checksum verification failed"));
	// It looks only at clusters that were shut down in order.
	if (bad.length === 0) return { status: "unknown", detail: `pg_checksums: ${firstLine(output)}` };
	return { status: "fail", detail: `pg_checksums finds ${bad.length} wrong blocks: ${firstLine(bad[0] ?? "")}` };
}

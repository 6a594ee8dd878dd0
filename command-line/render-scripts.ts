import type { ScriptReport } from "../contracts/report.ts";
import type {
	ApplicationScripts,
	ScriptStep,
} from "../extensions/vm-snapshot-linux/script-runner/application-scripts.ts";
import { type Cell, type Page, paragraph, table } from "./layout.ts";
import { humanMs } from "./output.ts";

type Bad = {
	readonly name: string;
	readonly onFailure: "fail" | "continue";
	readonly error: { readonly message: string };
};

export type ScriptsDocument = {
	readonly applications: readonly ApplicationScripts[];
	readonly bad: readonly Bad[];
	readonly notes: readonly string[];
	readonly freezeDisabledBy?: string;
};

export type ScriptChecksDocument = {
	readonly checks: readonly {
		readonly name: string;
		readonly application: string;
		readonly source: string;
		readonly reports: readonly ScriptReport[];
	}[];
	readonly bad: readonly Bad[];
};

/** What the ten columns of the table need. */
const leastTableColumns = 140;

/** Every step, in the order in which a job starts them; what can't be run below them. */
export function renderScripts({ applications, bad, notes, freezeDisabledBy }: ScriptsDocument, page: Page): string {
	const render = page.columns < leastTableColumns ? renderBlocks : renderTable;
	return [
		applications.length === 0 ? "no scripts are configured" : render(applications, page),
		...badLines(bad, page),
		...(freezeDisabledBy === undefined
			? []
			: [paragraph(`nothing is frozen: ${freezeDisabledBy}: fsFreezeEnabled is false`, page, 0, "warn")]),
		...notes.map((note) => paragraph(`note: ${note}`, page)),
	].join("\n");
}

/** Every step a row. */
function renderTable(applications: readonly ApplicationScripts[], page: Page): string {
	const head = [
		"ORDER",
		"NAME",
		"APPLICATION",
		"SOURCE",
		"USER",
		"ON FAILURE",
		"STEP",
		"DEADLINE",
		"RETRIES",
		"COMMAND",
	];
	const rows = applications.flatMap((one) =>
		stepsOf(one).map(([phase, step], index) => {
			const { order, name, application, source, runAs = "root", onFailure } = one;
			const about = [String(order), name, application, source, runAs, onFailure];
			const command = step.command.map(quoted).join(" ");
			const own = [phase, humanMs(step.deadlineMs), String(step.retries), command];
			return [...(index === 0 ? about : about.map(() => "")), ...own];
		}),
	);
	return table([head, ...rows], { page, head: true });
}

/** Every application a line, its steps below it. */
function renderBlocks(applications: readonly ApplicationScripts[], page: Page): string {
	const blocks = applications.map((one) => {
		const { order, name, application, source, runAs = "root", onFailure } = one;
		const then = onFailure === "fail" ? "a failure fails the job" : "a failure lowers the level";
		const about = `${name}${name === application ? "" : ` (${application})`}: ${source}, as ${runAs}; ${then}`;
		const steps = stepsOf(one).map(([phase, { deadlineMs, retries, command }]) => [
			phase,
			`${humanMs(deadlineMs)}${retries === 0 ? "" : `, ${retries} retries`}`,
			command.map(quoted).join(" "),
		]);
		const first = table([[String(order), { text: about, tone: "strong" }]], { page, whole: [0] });
		return `${first}\n${table(steps, { page, indent: 5, whole: [0, 1] })}`;
	});
	return blocks.join("\n");
}

export function renderScriptChecks({ checks, bad }: ScriptChecksDocument, page: Page): string {
	const rows = checks.flatMap(({ name, reports }) =>
		reports.map((report, index): Cell[] => [index === 0 ? name : "", report.phase, ...resultOf(report)]),
	);
	const found = rows.length === 0 ? [] : [table([["NAME", "STEP", "CHECK", "MESSAGE"], ...rows], { page, head: true })];
	const lines = [...found, ...badLines(bad, page)];
	return lines.length === 0 ? "no scripts are configured" : lines.join("\n");
}

function resultOf({ error, exitCode, signal, outputTail }: ScriptReport): [Cell, string] {
	const wasRun = exitCode !== undefined || signal !== undefined;
	if (error === undefined) return [{ text: wasRun ? "dry run ok" : "looks well", tone: "good" }, ""];
	const said = outputTail.trim().split("\n").at(-1) ?? "";
	return [{ text: error.code, tone: "bad" }, [error.message, said].filter(Boolean).join(": ")];
}

function badLines(bad: readonly Bad[], page: Page): string[] {
	return bad.map(({ name, onFailure, error }) => {
		const then = onFailure === "fail" ? "jobs fail" : "file-system at best";
		return paragraph(`bad: ${name} (${then}): ${error.message}`, page, 0, "bad");
	});
}

function stepsOf({ session, pre, post }: ApplicationScripts): [string, ScriptStep][] {
	const all = [
		["session", session],
		["pre", pre],
		["post", post],
	] as const;
	return all.flatMap(([phase, step]) => (step === undefined ? [] : [[phase, step] as [string, ScriptStep]]));
}

/** As a shell would want it, so that it can be copied. */
function quoted(word: string): string {
	return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}

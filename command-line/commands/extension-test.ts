import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import type { Command } from "commander";
import type { CheckResult, HandlerVerdict } from "../../extensions/kit/harness/check-handler.ts";
import type { CommandContext } from "../command-context.ts";
import { printResult } from "../output.ts";
import type { Act } from "../run-command-line.ts";

type Options = { settings?: string; keep?: boolean; json?: boolean };

export function addExtensionTestCommand(extensions: Command, context: CommandContext, act: Act): void {
	extensions
		.command("test <folder>")
		.description("lead an extension through a life on a host that knows the handler contract only; runs its commands")
		.option("--settings <file>", "JSON of publicSettings, protectedSettings and what else the guide names")
		.option("--keep", "keep the folder of the run: keys, settings, status files and logs")
		.option("--json", "print one JSON document")
		.action((folder: string, options: Options) =>
			act(options, async () => {
				const { checkHandler } = await import("../../extensions/kit/harness/check-handler.ts");
				const { readTestSettings } = await import("../extension-test-settings.ts");
				const settings = options.settings === undefined ? {} : await readTestSettings(options.settings);
				const base = await mkdtemp(join(tmpdir(), "stillpoint-extension-test-"));
				const say = (result: CheckResult) => {
					if (!options.json) context.stdout(`${renderCheck(result)}\n`);
				};
				let verdict: HandlerVerdict;
				try {
					const workFolder = join(base, "waagent");
					const signal = context.stopping;
					verdict = await checkHandler({ packageFolder: resolve(folder), workFolder, settings, signal, onCheck: say });
				} finally {
					if (!options.keep) await rm(base, { recursive: true, force: true });
				}
				const result = { ...verdict, ...(options.keep ? { folder: base } : {}) };
				printResult(context, options.json === true, result, renderVerdict);
				return verdict.passed ? 0 : 3;
			}),
		);
}

const marks = { passed: "ok  ", failed: "FAIL", skipped: "-   " } as const;

function renderCheck({ name, result, what, remedy }: CheckResult): string {
	const lines = [`${marks[result]} ${name}`];
	if (what !== undefined) lines.push(`       ${what.replaceAll("\n", "\n       ")}`);
	if (remedy !== undefined) lines.push(`       -> ${remedy}`);
	return lines.join("\n");
}

function renderVerdict(verdict: HandlerVerdict & { folder?: string }): string {
	const failed = verdict.checks.filter((check) => check.result === "failed").length;
	const kept = verdict.folder === undefined ? "" : `\nkept: ${verdict.folder}`;
	const said = failed === 0 ? "follows the handler contract" : `fails ${failed} of ${verdict.checks.length} checks`;
	return `${verdict.name} ${verdict.version} ${said}${kept}`;
}

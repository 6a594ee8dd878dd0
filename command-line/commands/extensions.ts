import type { Command } from "commander";
import { StillpointError } from "../../contracts/errors.ts";
import type { ExtensionInfo } from "../../contracts/local-calls.ts";
import type { CommandContext } from "../command-context.ts";
import { type Page, paint } from "../layout.ts";
import { addLocalAgentOptions, connectLocalAgent, connectToReadAgent } from "../local-agent.ts";
import { humanMs, printResult, table } from "../output.ts";
import type { Act } from "../run-command-line.ts";

type Options = { runDir: string; json?: boolean };

/** Reading drop-ins and packages; what follows from them goes on in the agent. */
const applyLimitMs = 60_000;
const listLimitMs = 10_000;

export function addExtensionsCommand(program: Command, context: CommandContext, act: Act): void {
	const group = program.command("extensions").description("see and apply what the extensions of this machine shall be");
	addLocalAgentOptions(
		group.command("list", { isDefault: true }).description("list extensions and their state"),
		context,
	).action((options: Options) =>
		act(options, async () => {
			const extensions = await call(options, "extensions.list", listLimitMs);
			printResult(context, options.json === true, { extensions }, renderList);
			return undefined;
		}),
	);
	addLocalAgentOptions(
		group.command("show").description("all about one extension").argument("<name>", "NAME or NAME/INSTANCE"),
		context,
	).action((name: string, options: Options) =>
		act(options, async () => {
			const all = await call(options, "extensions.list", listLimitMs);
			const extensions = all.filter((one) => idOf(one) === name || one.name === name);
			if (extensions.length === 0) throw new StillpointError("not-found", `there is no extension ${name}`);
			printResult(context, options.json === true, { extensions }, (found, page) =>
				found.extensions.map((one) => renderOne(one, page)).join("\n\n"),
			);
			return undefined;
		}),
	);
	addLocalAgentOptions(
		group.command("apply").description("read the drop-in files again and bring every extension to what they say"),
		context,
	).action((options: Options) =>
		act(options, async () => {
			const extensions = await call(options, "extensions.apply", applyLimitMs);
			printResult(context, options.json === true, { extensions }, renderList);
			return undefined;
		}),
	);

	async function call(options: Options, name: "extensions.list" | "extensions.apply", limitMs: number) {
		await using agent = await (name === "extensions.list"
			? connectToReadAgent(options.runDir, "extensions", context.stopping)
			: connectLocalAgent(options.runDir, context.stopping, { command: "extensions apply" }));
		return (await agent.call(name, {}, { limitMs })).extensions;
	}
}

function idOf({ name, instance }: ExtensionInfo): string {
	return instance === undefined ? name : `${name}/${instance}`;
}

function renderList({ extensions }: { extensions: readonly ExtensionInfo[] }, page: Page): string {
	if (extensions.length === 0) return "no extension is installed";
	const rows = extensions.map((one) => [
		idOf(one),
		one.version || "-",
		one.state,
		one.status ?? "-",
		one.health,
		one.error?.message ?? one.message ?? "",
	]);
	return table([["extension", "version", "state", "status", "health", "message"], ...rows], { page, head: true });
}

function renderOne(one: ExtensionInfo, page: Page): string {
	const { lastCommand } = one;
	const end = lastCommand?.timedOut ? "timed out" : `exit status ${lastCommand?.exitStatus ?? "none"}`;
	const rows = [
		["version", one.version || "-"],
		["state", one.state],
		["sequence", String(one.sequenceNumber)],
		["status", `${one.status ?? "-"} ${one.code ?? ""} ${one.message ?? ""}`.trim()],
		...(one.substatus ?? []).map((sub) => [`  ${sub.name}`, `${sub.status} ${sub.code} ${sub.message}`]),
		...(one.error === undefined ? [] : [["error", `${one.error.code}: ${one.error.message}`]]),
		["health", one.health],
		...(one.heartbeat === undefined ? [] : [["heartbeat", `${one.heartbeat.state} ${one.heartbeat.message}`.trim()]]),
		["processes", one.processes.join(" ") || "none"],
		["restarts", String(one.restarts)],
		...(lastCommand === undefined
			? []
			: [["last command", `${lastCommand.command} at ${lastCommand.at}: ${end}, ${humanMs(lastCommand.durationMs)}`]]),
		...(one.limitsNotEnforced.length === 0 ? [] : [["not enforced", one.limitsNotEnforced.join(", ")]]),
	];
	return `${paint(idOf(one), "strong", page)}\n${table(rows, { page, indent: 2, whole: [0] })}`;
}

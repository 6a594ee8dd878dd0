import { type Command, Option } from "commander";
import type { ApiRole, Credential } from "../../../contracts/controller-api.ts";
import type { CommandContext } from "../../command-context.ts";
import { addControllerOptions, type ControllerOptions, connectToController } from "../../controller-access.ts";
import type { Page } from "../../layout.ts";
import { humanTime, printResult, table } from "../../output.ts";
import { parseCount } from "../../parse-count.ts";
import type { Act } from "../../run-command-line.ts";

const dayMs = 86_400_000;
/** Not taken from the contract, which every command would have to load for it. */
const roles: readonly ApiRole[] = ["viewer", "operator"];

type AddOptions = ControllerOptions & { role: ApiRole; validDays: number; out: string };

export function addCredentialsCommands(controller: Command, context: CommandContext, act: Act): void {
	const credentials = controller.command("credentials").description("who may use the controller, and as what");
	addControllerOptions(
		credentials.command("list", { isDefault: true }).description("list them, also those that are no longer good"),
	).action((options: ControllerOptions) =>
		act(options, async () => {
			using api = await connectToController(options);
			const list = await api.listCredentials();
			printResult(context, options.json === true, { credentials: list }, (_, page) => renderCredentials(list, page));
			return undefined;
		}),
	);
	addControllerOptions(
		credentials
			.command("add")
			.description("make a key and a certificate for a person or a program; the key does not leave this host"),
	)
		.argument("<name>", "name that stands in the audit log")
		.addOption(new Option("--role <role>", "viewer reads, operator does everything").choices(roles).default("viewer"))
		.option("--valid-days <days>", "how long it is good", parseCount(1, 1_095), 365)
		.requiredOption("--out <folder>", "folder to make, for key.pem, cert.pem and ca.pem")
		.action((name: string, options: AddOptions) =>
			act(options, async () => {
				const { beginCredentialFolder } = await import("../../../controller/credential-files.ts");
				const { makeKeyAndRequest } = await import("../../../agent/link/certificate-request.ts");
				const { key, csr } = await makeKeyAndRequest();
				using api = await connectToController(options);
				await using folder = await beginCredentialFolder(options.out, key);
				const { role, validDays } = options;
				const answer = await api.issueCredential({ name, role, validMs: validDays * dayMs, csr });
				await folder.finish(answer);
				printResult(context, options.json === true, { ...answer.credential, folder: options.out }, (made) =>
					[
						`${made.role} ${made.name}, good until ${humanTime(made.expiresAt)}, in ${made.folder}`,
						"Use it with: stillpoint controller ... --controller URL --credentials FOLDER",
					].join("\n"),
				);
				return undefined;
			}),
		);
	addControllerOptions(credentials.command("revoke").description("refuse a credential from now on"))
		.argument("<name>", "its name")
		.action((name: string, options: ControllerOptions) =>
			act(options, async () => {
				using api = await connectToController(options);
				const revoked = await api.revokeCredential(name);
				printResult(context, options.json === true, revoked, (_, page) => renderCredentials([revoked], page));
				return undefined;
			}),
		);
}

function renderCredentials(list: readonly Credential[], page: Page): string {
	const stateOf = ({ revokedAt, expiresAt }: Credential) => {
		if (revokedAt !== undefined) return `revoked ${humanTime(revokedAt)}`;
		return Date.parse(expiresAt) > Date.now() ? "good" : "expired";
	};
	const rows = [
		["name", "role", "good until", "state"],
		...list.map((one) => [one.name, one.role, humanTime(one.expiresAt), stateOf(one)]),
	];
	return table(rows, { page, head: true });
}

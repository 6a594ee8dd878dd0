import type { Command } from "commander";
import type { CommandContext } from "../command-context.ts";
import type { Act } from "../run-command-line.ts";
import { addAgentsCommands } from "./controller/agents.ts";
import { addApiDocumentCommand } from "./controller/api-document.ts";
import { addAuditCommand } from "./controller/audit.ts";
import { addCancelCommand } from "./controller/cancel.ts";
import { addCredentialsCommands } from "./controller/credentials.ts";
import { addEnrolmentRequestsCommands } from "./controller/enrolment-requests.ts";
import { addEventsCommand } from "./controller/events.ts";
import { addJobsCommand } from "./controller/jobs.ts";
import { addRecoveryPointsCommand } from "./controller/recovery-points.ts";
import { addRunCommand } from "./controller/run.ts";
import { addSnapshotCommand } from "./controller/snapshot.ts";
import { addTokenCommand } from "./controller/token.ts";
import { addVerifyCommand } from "./controller/verify.ts";

export function addControllerCommands(program: Command, context: CommandContext, act: Act): void {
	const controller = program.command("controller").description("the reference controller and its agents");
	addRunCommand(controller, context, act);
	addTokenCommand(controller, context, act);
	addAgentsCommands(controller, context, act);
	addSnapshotCommand(controller, context, act);
	addCancelCommand(controller, context, act);
	addJobsCommand(controller, context, act);
	addRecoveryPointsCommand(controller, context, act);
	addVerifyCommand(controller, context, act);
	addEventsCommand(controller, context, act);
	addEnrolmentRequestsCommands(controller, context, act);
	addCredentialsCommands(controller, context, act);
	addAuditCommand(controller, context, act);
	addApiDocumentCommand(controller, context, act);
}

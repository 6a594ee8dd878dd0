/**
 * The one catalogue of errors. A code is a stable kebab-case word: never renamed, never reused.
 * The docs page, the exit statuses of the command line and the texts of the controller are made from this table.
 */

export type ErrorTraits = {
	/** Exit status of a command that ends with this error; see `exitStatuses`. */
	readonly exit: number;
	/** Whether the same request may succeed later without a change by a person. */
	readonly retryable: boolean;
	/** One sentence: what happened. */
	readonly summary: string;
	/** One sentence: what to do about it. */
	readonly remedy: string;
};

/** Exit statuses of every `stillpoint` command. A status that is not listed must be treated as a failure. */
export const exitStatuses = {
	0: "done as asked",
	1: "a bug in Stillpoint",
	2: "the command line or a request was not understood",
	3: "done, but at a weaker consistency than asked; or a check found fault",
	4: "no agent or controller answers",
	5: "not allowed",
	6: "a deadline passed",
	7: "busy: another job runs",
	8: "the snapshot failed and everything was undone",
	9: "something may still be frozen",
	69: "this machine lacks what the command needs",
	74: "it was done, but the answer could not be written",
	78: "the configuration is invalid",
	130: "ended by SIGINT before it was done",
	143: "ended by SIGTERM before it was done",
} as const satisfies Record<number, string>;

export const errorCatalogue = {
	// Ours, and the caller's.
	internal: row(
		1,
		false,
		"A bug in Stillpoint.",
		"Report it with the log; nothing was left frozen unless another error says so.",
	),
	"usage-invalid": row(2, false, "The command line was not understood.", "See --help of the command."),
	"message-invalid": row(
		2,
		false,
		"A message does not match its schema.",
		"Correct the field that is named; if you did not write it, compare the versions of the two programs.",
	),
	"message-too-large": row(
		2,
		false,
		"A message is larger than its limit.",
		"Send less; the limit stands in the details.",
	),
	"version-unsupported": row(
		2,
		false,
		"The other side speaks a version that this program does not know.",
		"Update the older of the two.",
	),
	"config-missing": row(
		78,
		false,
		"The configuration file does not exist.",
		"Create it, or start without --config to use the defaults.",
	),
	"config-invalid": row(78, false, "The configuration is invalid.", "Correct the key that the message names."),
	"method-not-allowed": row(
		2,
		false,
		"The address exists, but not with this method.",
		"Use one of the methods that the message names; docs/openapi.json lists all of them.",
	),
	"name-taken": row(
		2,
		false,
		"Something of this name is there already.",
		"Choose another name, or revoke the one that is there first.",
	),
	"not-found": row(2, false, "What was asked for does not exist.", "List what exists, then ask again."),
	"output-failed": row(
		74,
		false,
		"What the command had to say could not be written; what it did is done.",
		"Make room where its output goes, then ask again: stillpoint jobs and stillpoint report have what a job did.",
	),

	// Environment.
	"platform-unsupported": row(69, false, "This command needs Linux.", "Run it on a Linux machine."),
	"root-required": row(5, false, "This command needs root.", "Run it as root (sudo)."),
	"tool-missing": row(
		69,
		false,
		"A system program that is needed is not installed.",
		"Install the package that the message names.",
	),
	"state-unusable": row(
		78,
		false,
		"A folder or file that Stillpoint keeps state in cannot be used.",
		"Make it a folder of root with mode 0700 on a disk with free space.",
	),
	"journal-corrupt": row(
		78,
		false,
		"The job journal cannot be read.",
		"Move the named file away; a new journal is made, the old one is kept for you to look at.",
	),
	"already-running": row(
		7,
		false,
		"Another agent or controller runs with the same folder.",
		"Stop it first, or choose another folder.",
	),
	"address-unusable": row(
		69,
		true,
		"The controller cannot listen at its address.",
		"Choose another --listen or --port, or end the program that holds it.",
	),
	"agent-unreachable": row(4, true, "No agent answers on this machine.", "Start the service: stillpoint agent run."),
	"controller-unreachable": row(
		4,
		true,
		"The controller does not answer.",
		"Check the address, the network and that the controller runs.",
	),
	"untrusted-path": row(
		5,
		false,
		"A file or a folder above it could be changed by someone who is not root.",
		"chown root and chmod go-w everything that the message names.",
	),

	// Trust and the link.
	"not-allowed": row(5, false, "The caller may not do this.", "Use an identity that has the right."),
	"not-enrolled": row(
		5,
		false,
		"This agent is not enrolled with a controller.",
		"Enrol it with a token made by: stillpoint controller token.",
	),
	"token-invalid": row(
		5,
		false,
		"The enrolment token is unknown, used or expired.",
		"Make a new one: stillpoint controller token.",
	),
	"certificate-invalid": row(
		5,
		false,
		"The certificate request or certificate was refused.",
		"Enrol again; check the clocks of both machines.",
	),
	"certificate-revoked": row(
		5,
		false,
		"The certificate was revoked at the controller.",
		"Ask the controller's operator; an agent goes on with a new token (stillpoint agent enrol), a person with a new credential (stillpoint controller credentials add).",
	),
	"identity-changed": row(
		5,
		false,
		"This machine is a copy of the one that was enrolled, or was put back to an earlier state.",
		"Enrol it with a new token: stillpoint agent enrol.",
	),
	"clock-wrong": row(
		5,
		true,
		"The clocks of the two machines differ so much that a certificate is not valid yet or no longer.",
		"Set the clock that is wrong; the message names both times.",
	),
	"proxy-failed": row(
		4,
		true,
		"The HTTP proxy refused the connection or does not answer.",
		"Check controller.proxy in the configuration and that the proxy allows CONNECT to the controller.",
	),
	"rate-limited": row(7, true, "Too many requests in a short time.", "Wait as long as Retry-After says, then repeat."),
	"agent-offline": row(
		4,
		true,
		"The agent is not connected to the controller.",
		"Check the agent's service and its link.",
	),

	// Orders.
	"order-invalid": row(2, false, "The order was not understood.", "Correct the field that the message names."),
	"order-expired": row(
		6,
		true,
		"The order could not be started within its start-within time.",
		"Order again; the machine was busy.",
	),
	"job-running": row(7, true, "Another snapshot runs on this machine.", "Wait for it or cancel it."),
	"job-unknown": row(2, false, "No job has this id.", "List jobs to see the known ones."),
	"job-conflict": row(
		2,
		false,
		"This job id was used before, for a different order or one that is no longer known.",
		"Use a new job id.",
	),
	cancelled: row(8, true, "The job was cancelled; everything was undone.", "Order again when wanted."),
	stopping: row(8, true, "The service is stopping; everything was undone.", "Order again after the restart."),
	"asker-lost": row(
		8,
		true,
		"Who ordered the snapshot went away during it; everything was undone.",
		"Check the link, then order again.",
	),
	interrupted: row(
		8,
		true,
		"The agent ended during the job; on its next start everything of the job was undone.",
		"Order again; see the log for why the agent ended.",
	),

	// Plan and preparation.
	"disk-unknown": row(
		2,
		false,
		"The order names a disk that this machine does not have.",
		"See the names by lsblk there, or by: stillpoint controller agents inventory.",
	),
	"disk-not-mapped": row(
		2,
		false,
		"The controller has no image for a disk of the order.",
		"Map it: stillpoint controller agents map.",
	),
	"nothing-to-freeze": row(
		8,
		false,
		"No file system lies on the disks of the order.",
		"Name other disks, or accept level crash.",
	),
	"level-unreachable": row(
		8,
		false,
		"The lowest level that the order accepts cannot be reached.",
		"See the reasons; accept a lower level or remove what stands in the way.",
	),
	"run-dir-unsafe": row(
		78,
		false,
		"The run folder lies on a file system that the job would freeze.",
		"Use a run folder on tmpfs, such as /run/stillpoint.",
	),
	"exclusive-operation": row(
		8,
		true,
		"A balance, resize or like operation runs on a file system and would hold up its freeze.",
		"Wait until it is over.",
	),
	"write-probe-stuck": row(
		8,
		true,
		"A test write did not return in time: the file system is frozen by another or its disk hangs.",
		"Look for a foreign freeze or a failing disk.",
	),
	"foreign-freeze": row(
		8,
		true,
		"Somebody else holds a freeze of a file system; it was left alone.",
		"Let the other program thaw, then order again.",
	),
	"prepare-failed": row(8, true, "The provider of the snapshot could not prepare.", "See the provider's message."),
	"stall-too-long": row(
		8,
		true,
		"Writers would be stopped for longer than the order allows.",
		"Order in a quieter hour, raise --stall-budget-ms, or let the job wait with --stall-wait-ms.",
	),
	"copy-too-slow": row(
		8,
		false,
		"The copy would take longer than the hold allows.",
		"Raise the hold limit, use a file system with reflink, or accept level crash.",
	),

	// The window.
	"freeze-failed": row(
		8,
		true,
		"A file system could not be frozen; all others were thawed.",
		"See the report for the file system and the reason.",
	),
	"freeze-late": row(
		6,
		true,
		"Freezing took too long; everything was thawed.",
		"Look for heavy writers or a slow disk.",
	),
	"hold-expired": row(
		6,
		true,
		"The snapshot did not end before the hold limit; everything was thawed.",
		"Raise the hold limit or make the snapshot faster.",
	),
	"thawed-by-other": row(
		8,
		true,
		"Somebody else thawed a file system while the snapshot was taken.",
		"Find the other program; the snapshot is worth less.",
	),
	"freezer-died": row(8, true, "The freezer process ended unexpectedly; everything was thawed.", "See the log."),
	"thaw-failed": row(
		9,
		false,
		"A file system could not be thawed.",
		"Run: stillpoint thaw. As a last resort send SysRq-j from the console.",
	),
	stuck: row(
		9,
		true,
		"The kernel has not yet let go of a freeze; it is thawed as soon as it does.",
		"Wait, or end the writer or operation that the freeze waits for; then run: stillpoint thaw.",
	),
	"ledger-invalid": row(
		9,
		false,
		"A ledger of frozen file systems cannot be read: what it stands for may still be frozen.",
		"Look whether a file system is frozen (a write to it hangs; fsfreeze -u thaws it), then remove the named file.",
	),
	"snapshot-failed": row(
		8,
		true,
		"The snapshot could not be taken.",
		"See the message of the provider or the command.",
	),
	"extension-failed": row(
		8,
		true,
		"The extension process ended without a result; everything was undone.",
		"See the log.",
	),
	"extension-invalid": row(
		78,
		false,
		"An extension package or its manifest is invalid.",
		"See the details for the file and the field.",
	),
	"extension-missing": row(
		78,
		false,
		"No installed extension can do this.",
		"Install one: set extensions.installFrom in the configuration.",
	),

	"extension-timeout": row(
		6,
		true,
		"A command or a job of an extension did not end before its deadline; its processes were ended.",
		"See the extension's log; raise the job's limit if the work really takes that long.",
	),
	"extension-died": row(
		8,
		true,
		"The processes of an extension ended, or fell silent, while it still had work; it is started again.",
		"See the extension's log.",
	),
	"extension-skipped": row(
		8,
		true,
		"An extension was not enabled because one that it depends on failed.",
		"Mend the one that the message names.",
	),
	"settings-invalid": row(
		78,
		false,
		"The settings of an extension are invalid or cannot be decrypted.",
		"Correct the file and the field that the message names.",
	),

	// Scripts.
	"script-config-invalid": row(
		78,
		false,
		"A configuration of scripts is invalid.",
		"Correct the field that the message names.",
	),
	"script-untrusted": row(
		8,
		false,
		"A script could be changed by someone who is not root and was not run, or was changed while it ran.",
		"chown root and chmod go-w everything that the message names; of one that was changed, order again.",
	),
	"script-failed": row(8, true, "A script ended with a failure.", "See the tail of its output in the report."),
	"script-timeout": row(
		6,
		true,
		"A script did not end before its deadline and was ended.",
		"Raise its deadline or make it faster.",
	),
	"script-hold-lost": row(
		8,
		true,
		"A session script could not prove that it held all along.",
		"See the tail of its output in the report.",
	),

	// Storage.
	"disk-full": row(8, true, "There is no space left.", "Make space where the message says."),
	"image-unreadable": row(8, false, "A disk image cannot be read.", "Check the path and its rights."),
	"recovery-point-invalid": row(
		2,
		false,
		"A recovery point has no valid manifest.",
		"It was interrupted or damaged; take a new one.",
	),
	"verify-failed": row(
		3,
		false,
		"The recovery point is not what its label says.",
		"See the findings; do not rely on it.",
	),
	"deadline-passed": row(6, true, "A deadline passed.", "See what was waited for; try again."),
	terminated: row(143, true, "Ended by a signal before it was done; everything was undone.", "Run it again."),
} as const satisfies Record<string, ErrorTraits>;

function row(exit: keyof typeof exitStatuses, retryable: boolean, summary: string, remedy: string): ErrorTraits {
	return { exit, retryable, summary, remedy };
}

/** The service: does it run, is it this version, can it take snapshots, and does its controller reach it. */
import { X509Certificate } from "node:crypto";
import { join } from "node:path";
import { findInstalled, findSnapshotExtension } from "../../agent/extension-host/find-extensions.ts";
import { findEnrolment } from "../../agent/link/enrolment-file.ts";
import type { AgentFolders } from "../../agent/load-config.ts";
import type { Finding } from "../../contracts/check.ts";
import { asStillpointError } from "../../contracts/errors.ts";
import type { AgentStatus } from "../../contracts/local-calls.ts";
import { version } from "../../contracts/version.ts";
import { connectLocalAgent } from "../local-agent.ts";
import { humanMs } from "../output.ts";

/** A certificate is renewed long before; one with less left is not being renewed. */
const leastValidMs = 7 * 86_400_000;

/** Undefined: no agent listens. @throws `agent-unreachable` for one that listens and is silent */
export async function findAgentStatus(runFolder: string, signal: AbortSignal): Promise<AgentStatus | undefined> {
	try {
		await using agent = await connectLocalAgent(runFolder, signal);
		return await agent.call("agent.status", {}, { limitMs: 3_000, signal });
	} catch (thrown) {
		const error = asStillpointError(thrown);
		if (error.code === "agent-unreachable" && error.details["call"] === undefined) return undefined;
		throw error;
	}
}

export async function agentFindings(
	status: AgentStatus | undefined,
	given: { folders: AgentFolders; snapshotExtension: string | undefined; nowMs: number },
): Promise<Finding[]> {
	return [agentFinding(status), await extensionFinding(status, given), ...linkFindings(status, given)];
}

function agentFinding(status: AgentStatus | undefined): Finding {
	if (status === undefined)
		return {
			check: "agent",
			status: "warn",
			what: "no agent answers",
			why: "Without it nobody can order a snapshot.",
			remedy: "Start the service: stillpoint agent run.",
		};
	const what = `runs since ${status.startedAt}, version ${status.version}`;
	if (status.version === version) return { check: "agent", status: "ok", what };
	const why = `This program is version ${version}.`;
	return { check: "agent", status: "warn", what, why, remedy: "Restart the service after an update." };
}

async function extensionFinding(
	status: AgentStatus | undefined,
	{ folders, snapshotExtension }: { folders: AgentFolders; snapshotExtension: string | undefined },
): Promise<Finding> {
	const installed = await findInstalled(join(folders.stateDir, "extensions"));
	const found = findSnapshotExtension(installed, snapshotExtension);
	if (found !== undefined)
		return { check: "extension", status: "ok", what: `${found.name} ${found.version} is enabled` };
	const list = installed.map((one) => `${one.name} ${one.version}: ${one.state}`).join(", ");
	return {
		check: "extension",
		status: status === undefined ? "warn" : "fail",
		what: `no enabled extension${snapshotExtension === undefined ? "" : ` ${snapshotExtension}`} can take snapshots`,
		why: list === "" ? "None is installed." : `Installed: ${list}.`,
		remedy: "The agent installs what extensions.installFrom names; see stillpoint extensions.",
	};
}

/** What the agent says of its link, or without one what the enrolment on disk says. */
function linkFindings(
	status: AgentStatus | undefined,
	{ folders, nowMs }: { folders: AgentFolders; nowMs: number },
): Finding[] {
	const expires = status?.link.certificateExpiresAt ?? findExpiry(folders.stateDir);
	const enrolled = status?.link.enrolled ?? expires !== undefined;
	if (!enrolled)
		return [{ check: "link", status: "ok", what: "not enrolled with a controller: for local orders only" }];
	return [
		...(status === undefined ? [] : [connectionFinding(status.link)]),
		...(expires === undefined ? [] : [certificateFinding(Date.parse(expires) - nowMs, expires)]),
		...(status?.link.connected === true ? [clockFinding(status.link.clockDifferenceMs)] : []),
	];
}

function connectionFinding({ connected, controller, error }: AgentStatus["link"]): Finding {
	if (connected) return { check: "link", status: "ok", what: `connected to ${controller ?? "its controller"}` };
	return {
		check: "link",
		status: "warn",
		what: `not connected to ${controller ?? "its controller"}`,
		...(error === undefined ? {} : { why: `${error.code}: ${error.message}` }),
		remedy: error === undefined ? "See stillpoint status." : `stillpoint explain ${error.code}`,
	};
}

function certificateFinding(leftMs: number, expires: string): Finding {
	const check = "certificate";
	if (leftMs >= leastValidMs) return { check, status: "ok", what: `valid for ${humanMs(leftMs)}, until ${expires}` };
	return {
		check,
		status: leftMs <= 0 ? "fail" : "warn",
		what: leftMs <= 0 ? `expired at ${expires}` : `expires in ${humanMs(leftMs)}, at ${expires}`,
		why: "The agent renews it long before that, when it is connected.",
		remedy:
			leftMs <= 0 ? "Enrol anew: stillpoint agent enrol." : "See why the agent is not connected: stillpoint status.",
	};
}

/** @param differenceMs only told by the agent when it is much */
function clockFinding(differenceMs: number | undefined): Finding {
	if (differenceMs === undefined) return { check: "clock", status: "ok", what: "about the same as the controller's" };
	return {
		check: "clock",
		status: "warn",
		what: `differs from the controller's by ${humanMs(Math.abs(differenceMs))}`,
		why: "Certificates are valid by the clock, and times of reports are this machine's.",
		remedy: "Let a time service (chrony, systemd-timesyncd) set the clocks of both.",
	};
}

function findExpiry(stateDir: string): string | undefined {
	const enrolment = findEnrolment(stateDir);
	return enrolment === undefined ? undefined : new X509Certificate(enrolment.certificate).validToDate.toISOString();
}

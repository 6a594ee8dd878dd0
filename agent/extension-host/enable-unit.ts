import { type HandlerVersion, notRun, runCommand, settleCommand, uninstallExitVariable } from "./handler.ts";
import { readHandlerState, writeHandlerState, writeHandlerStatus } from "./handler-files.ts";
import { withdrawPlaceholderStatus } from "./handler-status-file.ts";
import type { HostPorts } from "./host-ports.ts";
import { refreshProcesses, refreshStatus, type Unit, unitStatusPath } from "./unit.ts";

/**
 * `enable` is level-triggered: it is run at every start, and again when the daemon died. The handler itself keeps from
 * doing its work twice, by mrseq.
 * @throws `extension-failed`, `extension-timeout`
 */
export async function enableUnit(
	unit: Unit,
	version: HandlerVersion,
	ports: HostPorts,
	uninstallExit = notRun,
): Promise<void> {
	const { instance, sequenceNumber } = unit.goal;
	const { place } = version;
	await ports.hold.write(() => withdrawPlaceholderStatus(unitStatusPath(version, unit.goal)));
	const environment = { [uninstallExitVariable]: uninstallExit };
	const { outcome, require } = await runCommand(
		version,
		"enable",
		{ instance, sequenceNumber, environment },
		ports,
		(last) => {
			unit.lastCommand = last;
		},
	);
	const isReady = outcome.exitStatus === 0;
	const message = isReady ? "enabled" : `enable ended with ${outcome.exitStatus ?? "no exit status"}`;
	await ports.hold.write(async () => {
		if (isReady && (await readHandlerState(place)) !== "Enabled") await writeHandlerState(place, "Enabled");
		if (isReady && instance !== undefined) await writeHandlerState(place, "Enabled", instance);
		await writeHandlerStatus(place, isReady, isReady ? 0 : 1009, message);
	});
	await settleCommand(version, ports);
	if (isReady) {
		unit.state = "Enabled";
		unit.error = undefined;
		refreshProcesses(unit, version);
		await refreshStatus(unit, version);
	}
	require();
}

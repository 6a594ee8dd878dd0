/** The extension VMSnapshotLinux: `node vm-snapshot-linux.ts snapshot`, and the handler commands of its manifest. */
import { asStillpointError, StillpointError } from "../../contracts/errors.ts";
import { type HandlerCommandName, isHandlerCommand } from "../kit/handler-commands.ts";

// A FITHAW that blocks keeps a thread of libuv's pool; libuv reads this when the pool is first used.
process.env["UV_THREADPOOL_SIZE"] ??= "64";

const command = process.argv[2];
if (command === "snapshot") process.exitCode = await snapshot();
else if (isHandlerCommand(command)) process.exitCode = await runHandler(command);
else {
	process.stderr.write("usage: vm-snapshot-linux.ts snapshot | install | enable | disable | update | uninstall\n");
	process.exitCode = 2;
}

async function snapshot(): Promise<number> {
	const ending = new AbortController();
	for (const name of ["SIGTERM", "SIGINT", "SIGHUP"] as const) {
		process.on(name, () => ending.abort(new StillpointError("stopping", `ended by ${name}`)));
	}
	const { runVmSnapshot } = await import("./run-vm-snapshot.ts");
	return runVmSnapshot({ stdin: process.stdin, stderr: process.stderr, signal: ending.signal });
}

async function runHandler(name: HandlerCommandName): Promise<number> {
	const { runHandlerCommand } = await import("../kit/handler-commands.ts");
	const { checkMachine } = await import("./check-machine.ts");
	try {
		const said = await runHandlerCommand({
			name,
			packageFolder: process.cwd(),
			sequenceNumber: process.env["ConfigSequenceNumber"],
			handlerName: "VMSnapshotLinux",
			check: checkMachine,
			now: () => new Date(),
		});
		process.stdout.write(`${said}\n`);
		return 0;
	} catch (thrown) {
		const error = asStillpointError(thrown);
		process.stderr.write(`${error.message}\n`);
		return error.traits.exit;
	}
}

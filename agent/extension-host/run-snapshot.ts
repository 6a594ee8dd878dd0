import { spawn } from "node:child_process";
import { writeFileSync } from "node:fs";
import { StillpointError } from "../../contracts/errors.ts";
import type { SnapshotRequest } from "../../contracts/extension.ts";
import { parseCommandLine } from "./command-line-words.ts";
import { handlerEnvironment } from "./handler-environment.ts";
import type { InstalledExtension } from "./installed-extension.ts";
import { keepTail } from "./output-tail.ts";
import { endGroup } from "./run-handler-command.ts";

const tailBytes = 8_192;
/** Each FIFREEZE and FITHAW in flight holds a thread of the pool. */
const threadPoolSize = "16";
/** Not -1000: of two that hold a freeze, the freezer must be the last that is ended. */
const oomScore = "-900";
/** For the freezer to thaw when its stdin ends with the extension: only its own FITHAW leaves nothing to rescue. */
const freezerGraceMs = 1_000;

export type ExtensionProcess = {
	readonly pid: number;
	/** When it is reaped. Never rejects. */
	readonly exited: Promise<{ exitCode: number | null; signal: NodeJS.Signals | null; outputTail: string }>;
	/** The end of its stdin tells it that the host is gone. */
	endInput(): void;
	/** SIGKILL to it, and a little later to its whole process group. */
	kill(): void;
};

/**
 * Starts the extension's snapshot command: the request as one line on stdin, which then stays open as its life line.
 * @throws `extension-missing` when it has no such command; a program that cannot be started is an exit.
 */
export function startSnapshotCommand(extension: InstalledExtension, request: SnapshotRequest): ExtensionProcess {
	const command = extension.manifest.handlerManifest.snapshotCommand;
	if (command === undefined) throw new StillpointError("extension-missing", `${extension.name} has no snapshotCommand`);
	const [program, ...words] = parseCommandLine(command, extension.folder);
	const child = spawn(program, words, {
		cwd: extension.folder,
		env: { ...handlerEnvironment(extension), UV_THREADPOOL_SIZE: threadPoolSize },
		detached: true,
		stdio: ["pipe", "pipe", "pipe"],
	});
	const tail = keepTail([child.stdout, child.stderr], tailBytes);
	const exited = Promise.withResolvers<Awaited<ExtensionProcess["exited"]>>();
	child.on("error", (error) => exited.resolve({ exitCode: null, signal: null, outputTail: error.message }));
	child.on("exit", (exitCode, signal) => {
		// What it left behind in its group must not outlive it; not even an agent that ends meanwhile.
		if (isGroupAlive(child.pid)) setTimeout(() => endGroup(child.pid), freezerGraceMs);
		exited.resolve({ exitCode, signal, outputTail: tail.text() });
	});
	child.stdin.on("error", () => {});
	child.stdin.write(`${JSON.stringify(request)}\n`);
	if (child.pid !== undefined) protectFromOom(child.pid);
	return {
		pid: child.pid ?? 0,
		exited: exited.promise,
		endInput: () => void child.stdin.end(),
		kill() {
			child.kill("SIGKILL");
			// One that a disk keeps from ending has told its freezer nothing.
			setTimeout(() => endGroup(child.pid), freezerGraceMs).unref();
		},
	};
}

function isGroupAlive(leader: number | undefined): boolean {
	try {
		return leader !== undefined && process.kill(-leader, 0);
	} catch {
		return false;
	}
}

/** Children inherit it. Not allowed in some containers: then the kernel's own choice stands. */
function protectFromOom(pid: number): void {
	try {
		writeFileSync(`/proc/${pid}/oom_score_adj`, oomScore);
	} catch {
		// See above.
	}
}

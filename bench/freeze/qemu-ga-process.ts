import { spawn } from "node:child_process";
import { once } from "node:events";
import { connect } from "node:net";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";

export type QemuGa = AsyncDisposable & {
	/** @throws what it answers instead of a result, and when it does not answer within `limitMs`. */
	call(command: string, args?: Record<string, unknown>, limitMs?: number): Promise<unknown>;
};

/**
 * Debian's qemu-ga, in a mount namespace of its own. Its thaw is one of all file systems that it sees, whoever froze
 * them: so everything on a block device that is neither below `folder` nor what that lies on is detached there first,
 * and it is not started when that fails.
 */
const program = `
folder=$1
shift
strangers() {
	while read -r _ _ _ _ point _ rest; do
		[[ "$rest" == *"- "*" /dev/"* ]] || continue
		[[ "$point" == "$folder"/* || "$folder/" == "\${point%/}/"* ]] && continue
		printf '%b\\n' "$point"
	done < /proc/self/mountinfo
}
# Again, because one may lie over another at the same place.
for attempt in 1 2 3 4 5; do
	strangers | tac | while read -r point; do umount --lazy "$point" 2>/dev/null; done
done
left=$(strangers)
[ -z "$left" ] || { echo "can't be detached: $left" >&2; exit 1; }
exec "$@"
`;

const startLimitMs = 5_000;
const endLimitMs = 5_000;

/** @param folder Without a symbolic link in it. @param stateFolder Never on what is frozen. */
export async function startQemuGa(folder: string, stateFolder: string, signal: AbortSignal): Promise<QemuGa> {
	await using undo = new AsyncDisposableStack();
	const socketPath = join(stateFolder, "qemu-ga.sock");
	const files = ["-t", stateFolder, "-f", join(stateFolder, "qemu-ga.pid"), "-l", "/dev/null"];
	const command = ["qemu-ga", "-m", "unix-listen", "-p", socketPath, ...files];
	const inNamespace = ["--mount", "--propagation", "private", "setpriv", "--pdeathsig", "KILL"];
	const child = spawn("unshare", [...inNamespace, "bash", "-c", program, "bash", folder, ...command], {
		cwd: "/",
		stdio: ["ignore", "ignore", "pipe"],
	});
	let said = "";
	child.stderr.setEncoding("utf8").on("data", (text: string) => {
		said = (said + text).slice(-2000);
	});
	const exited = once(child, "exit");
	undo.defer(async () => {
		child.kill("SIGTERM");
		// While it takes itself for frozen it ignores SIGTERM; by now it is not.
		const timer = setTimeout(() => child.kill("SIGKILL"), endLimitMs);
		await exited;
		clearTimeout(timer);
	});
	const limit = AbortSignal.any([signal, AbortSignal.timeout(startLimitMs)]);
	let ended = false;
	void exited.then(() => {
		ended = true;
	});
	const socket = await (async () => {
		for (;;) {
			const found = await tryConnect(socketPath);
			if (found !== undefined) return found;
			if (limit.aborted || ended) throw new Error(`qemu-ga did not start: ${said}`);
			await sleep(20);
		}
	})();
	undo.defer(() => void socket.destroy());
	const waiting: ((line: string) => void)[] = [];
	createInterface({ input: socket }).on("line", (line) => waiting.shift()?.(line));
	socket.on("error", () => undefined);
	const owned = undo.move();
	return {
		async call(command, args = {}, limitMs = 60_000) {
			const answered = Promise.withResolvers<string>();
			waiting.push(answered.resolve);
			const timer = setTimeout(() => answered.reject(new Error(`${command}: no answer in ${limitMs} ms`)), limitMs);
			void exited.then(() => answered.reject(new Error(`qemu-ga ended: ${said}`)));
			socket.write(`${JSON.stringify({ execute: command, arguments: args })}\n`);
			try {
				const answer = JSON.parse(await answered.promise) as { return?: unknown; error?: { desc: string } };
				if (answer.error !== undefined) throw new Error(`${command}: ${answer.error.desc}`);
				return answer.return;
			} finally {
				clearTimeout(timer);
			}
		},
		[Symbol.asyncDispose]: () => owned.disposeAsync(),
	};
}

function tryConnect(path: string): Promise<ReturnType<typeof connect> | undefined> {
	return new Promise((resolve) => {
		const socket = connect(path);
		socket.once("connect", () => resolve(socket));
		socket.once("error", () => resolve(undefined));
	});
}

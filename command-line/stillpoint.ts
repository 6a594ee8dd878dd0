/**
 * The `stillpoint` executable: the only file of the command line that touches argv, environment, signals and the exit
 * status. Everything is loaded after the thread pool's size is set, because FITHAW of the third holder must never wait
 * for a free thread.
 */
process.env["UV_THREADPOOL_SIZE"] ??= "16";

const stopping = new AbortController();
let signalled: "SIGINT" | "SIGTERM" | undefined;
for (const name of ["SIGINT", "SIGTERM"] as const) {
	process.on(name, () => {
		signalled ??= name;
		stopping.abort();
	});
}
// A reader that goes away (`stillpoint jobs | head`) must not end a command that holds a freeze.
const readerGone = new AbortController();
let outputFault: Error | undefined;
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
	readerGone.abort();
	if (error.code !== "EPIPE") outputFault ??= error;
});
process.stderr.on("error", () => {});

const { runCommandLine } = await import("./run-command-line.ts");
process.exitCode = await runCommandLine(process.argv.slice(2), {
	environment: process.env,
	stopping: stopping.signal,
	readerGone: readerGone.signal,
	signalled: () => signalled,
	become: (words, threads) =>
		process.execve?.(process.execPath, [process.execPath, ...words], { UV_THREADPOOL_SIZE: String(threads) }),
	stdout: (text) => void process.stdout.write(text),
	findOutputFault: async () => {
		// A fault is told after the write that had it.
		await new Promise((resolve) => process.stdout.write("", resolve));
		await new Promise((resolve) => setImmediate(resolve));
		return outputFault;
	},
	stderr: (text) => void process.stderr.write(text),
	isTerminal: process.stdout.isTTY === true,
	columns: process.stdout.isTTY === true ? process.stdout.columns : undefined,
	stderrTerminal: process.stderr.isTTY === true ? { columns: process.stderr.columns || 80 } : undefined,
});

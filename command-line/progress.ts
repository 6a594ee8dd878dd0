/** What goes on, for people, on stderr: on a terminal one line that is written anew, else a line for each step. */
import type { CommandContext } from "./command-context.ts";
import { paint, printable } from "./layout.ts";
import { pageOfStderr } from "./page.ts";

export type Progress = Disposable & {
	say(step: string): void;
	/** From here on nothing is written: stderr may be a file on a disk that is frozen. */
	hold(): void;
	/** Writes what was said meanwhile. */
	release(): void;
	/** Takes the line away; more may be said after it. */
	clear(): void;
};

const silent: Progress = { say() {}, hold() {}, release() {}, clear() {}, [Symbol.dispose]() {} };

export function makeProgress(context: CommandContext, isQuiet: boolean): Progress {
	if (isQuiet) return silent;
	const isLive = context.stderrTerminal !== undefined && context.environment["TERM"] !== "dumb";
	const page = pageOfStderr(context);
	const startMs = performance.now();
	let waiting: string[] | undefined;
	let isDirty = false;
	const write = (step: string) => {
		if (!isLive) return context.stderr(`${step}\n`);
		const seconds = `${((performance.now() - startMs) / 1000).toFixed(1)} s`;
		// One place less than there are, or some terminals wrap.
		const text = `${seconds.padStart(7)}  ${step}`.slice(0, page.columns - 1);
		isDirty = true;
		context.stderr(`\r\u001b[K${paint(text, "dim", page)}`);
	};
	const release = () => {
		const said = waiting ?? [];
		waiting = undefined;
		for (const step of said) write(step);
	};
	const clear = () => {
		release();
		if (isDirty) context.stderr("\r\u001b[K");
		isDirty = false;
	};
	return {
		say(step) {
			if (waiting === undefined) write(printable(step));
			else waiting.push(printable(step));
		},
		hold() {
			waiting ??= [];
		},
		release,
		clear,
		[Symbol.dispose]: clear,
	};
}

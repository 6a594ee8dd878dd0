import { addAbortListener } from "node:events";

export type Part = { readonly name: string; start(): Promise<AsyncDisposable> | AsyncDisposable };

/** Starts the parts in order, waits for `stopping`, stops them in reverse. A part that cannot start stops the others. */
export async function runParts(parts: readonly Part[], stopping: AbortSignal, onReady: () => void): Promise<void> {
	await using started = new AsyncDisposableStack();
	for (const part of parts) {
		if (stopping.aborted) return;
		started.use(await part.start());
	}
	onReady();
	// Unlike addEventListener, addAbortListener also fires when the signal was aborted before this line.
	await new Promise<void>((resolve) => {
		addAbortListener(stopping, () => resolve());
	});
}

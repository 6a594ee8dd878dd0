import { type FileHandle, open, rename } from "node:fs/promises";

const keptFiles = 3;

/** An append-only file that is put away (`.1`, `.2`, `.3`) when it has reached its size. Calls must not overlap. */
export type LogFile = AsyncDisposable & { append(text: string): Promise<void> };

export function makeLogFile(path: string, maxBytes: number): LogFile {
	const state: { handle?: FileHandle; sizeBytes: number } = { sizeBytes: 0 };

	async function rotate(): Promise<void> {
		await state.handle?.close();
		delete state.handle;
		for (let number = keptFiles - 1; number >= 0; number -= 1) {
			const from = number === 0 ? path : `${path}.${number}`;
			await rename(from, `${path}.${number + 1}`).catch((error: NodeJS.ErrnoException) => {
				if (error.code !== "ENOENT") throw error;
			});
		}
	}

	return {
		async append(text) {
			if (state.handle === undefined) {
				state.handle = await open(path, "a", 0o600);
				state.sizeBytes = (await state.handle.stat()).size;
			}
			const bytes = Buffer.byteLength(text);
			if (state.sizeBytes > 0 && state.sizeBytes + bytes > maxBytes) {
				await rotate();
				state.handle = await open(path, "a", 0o600);
				state.sizeBytes = 0;
			}
			await state.handle.appendFile(text);
			state.sizeBytes += bytes;
		},
		async [Symbol.asyncDispose]() {
			await state.handle?.close();
		},
	};
}

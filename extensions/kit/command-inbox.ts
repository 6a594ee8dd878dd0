import type { ExtensionCommand } from "../../contracts/extension.ts";

export type CommandOf<T extends ExtensionCommand["type"]> = Extract<ExtensionCommand, { type: T }>;

/** The host's commands, kept until somebody waits for them. Of each kind the first counts; a repeat is no news. */
export class CommandInbox {
	readonly #first = new Map<ExtensionCommand["type"], ExtensionCommand>();
	readonly #waiting = new Set<{ types: readonly string[]; resolve(command: ExtensionCommand): void }>();

	push(command: ExtensionCommand): void {
		if (this.#first.has(command.type)) return;
		this.#first.set(command.type, command);
		for (const one of this.#waiting) if (one.types.includes(command.type)) one.resolve(command);
	}

	/** Rejects with the signal's reason. A command that came before is answered at once. */
	async wait<T extends ExtensionCommand["type"]>(types: readonly T[], signal: AbortSignal): Promise<CommandOf<T>> {
		for (const type of types) {
			const before = this.#first.get(type);
			if (before !== undefined) return before as CommandOf<T>;
		}
		signal.throwIfAborted();
		const { promise, resolve, reject } = Promise.withResolvers<ExtensionCommand>();
		const waiting = { types, resolve };
		const onAbort = () => reject(signal.reason);
		this.#waiting.add(waiting);
		signal.addEventListener("abort", onAbort, { once: true });
		try {
			return (await promise) as CommandOf<T>;
		} finally {
			this.#waiting.delete(waiting);
			signal.removeEventListener("abort", onAbort);
		}
	}
}

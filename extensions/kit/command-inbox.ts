import type { ExtensionCommand } from "../../contracts/extension.ts";

export type CommandOf<T extends ExtensionCommand["type"]> = Extract<ExtensionCommand, { type: T }>;
type Waiting = { readonly types: readonly string[]; resolve(command: ExtensionCommand): void };

/** Several for each of the disks that a hold may have. */
const mostTaken = 1024;

/**
 * The host's commands, kept until somebody waits for them. Of each kind the first counts; a repeat is no news. Of
 * `taken` each one counts, and is given once.
 */
export class CommandInbox {
	readonly #first = new Map<ExtensionCommand["type"], ExtensionCommand>();
	readonly #taken: CommandOf<"taken">[] = [];
	readonly #waiting = new Set<Waiting>();

	push(command: ExtensionCommand): void {
		if (command.type === "taken") {
			if (!this.#answer(command) && this.#taken.length < mostTaken) this.#taken.push(command);
			return;
		}
		if (this.#first.has(command.type)) return;
		this.#first.set(command.type, command);
		this.#answer(command);
	}

	/** Every `taken` that came and was not given yet. */
	drainTaken(): CommandOf<"taken">[] {
		return this.#taken.splice(0);
	}

	/** Rejects with the signal's reason. A command that came before is answered at once, `taken` before others. */
	async wait<T extends ExtensionCommand["type"]>(types: readonly T[], signal: AbortSignal): Promise<CommandOf<T>> {
		const wanted: readonly string[] = types;
		const taken = wanted.includes("taken") ? this.#taken.shift() : undefined;
		if (taken !== undefined) return taken as CommandOf<T>;
		for (const type of types) {
			const before = this.#first.get(type);
			if (before !== undefined) return before as CommandOf<T>;
		}
		signal.throwIfAborted();
		const { promise, resolve, reject } = Promise.withResolvers<ExtensionCommand>();
		const waiting = { types, resolve };
		const onAbort = () => {
			this.#waiting.delete(waiting);
			reject(signal.reason);
		};
		this.#waiting.add(waiting);
		signal.addEventListener("abort", onAbort, { once: true });
		try {
			return (await promise) as CommandOf<T>;
		} finally {
			signal.removeEventListener("abort", onAbort);
		}
	}

	/** Whether somebody waited for it. Who is answered waits no more: the next `taken` must find nobody, or another. */
	#answer(command: ExtensionCommand): boolean {
		let heard = false;
		for (const one of this.#waiting) {
			if (!one.types.includes(command.type)) continue;
			this.#waiting.delete(one);
			one.resolve(command);
			heard = true;
		}
		return heard;
	}
}

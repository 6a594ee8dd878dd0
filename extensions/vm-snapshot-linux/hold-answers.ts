import type { FreezeResult, FreezerEvent } from "../../contracts/freezer-protocol.ts";
import type { CallEvidence, FileSystemEvidence } from "./consistency-verdict.ts";

export type Answer = CallEvidence & { readonly errno?: string | undefined };

const freezeAnswers: readonly FreezeResult[] = ["frozen", "foreign", "unsupported", "failed"];
const thawAnswers: readonly FreezeResult[] = ["thawed", "not-frozen", "thaw-failed"];

/** What FIFREEZE and FITHAW answered, whoever of the holders made the call. */
export class HoldAnswers {
	readonly freezes = new Map<string, Answer>();
	readonly thaws = new Map<string, Answer>();

	note(event: FreezerEvent): void {
		if (event.type === "fileSystem") this.#noteOne(event.superblock, event);
		if (event.type === "thawed") for (const one of event.fileSystems) this.#noteOne(one.superblock, one);
	}

	noteThaw(superblock: string, answer: Answer): void {
		const before = this.thaws.get(superblock);
		// The first FITHAW that answered 0 ended the hold; what came before that answer is no proof of a foreign thaw,
		// unless FIFREEZE had answered by then: what is frozen after that is somebody else's.
		if (before?.result === "thawed") return;
		if (before?.result === "not-frozen" && (answer.result !== "thawed" || this.#wasFrozenBefore(superblock, before)))
			return;
		this.thaws.set(superblock, answer);
	}

	/** By FIFREEZE's answers, whatever became of them since. */
	allFrozen(targets: readonly { readonly superblock: string }[]): boolean {
		return targets.every(({ superblock }) => this.freezes.get(superblock)?.result === "frozen");
	}

	evidence(superblocks: readonly string[]): FileSystemEvidence[] {
		return superblocks.map((superblock) => {
			const freeze = this.freezes.get(superblock);
			const thaw = this.thaws.get(superblock);
			return { superblock, ...(freeze === undefined ? {} : { freeze }), ...(thaw === undefined ? {} : { thaw }) };
		});
	}

	#wasFrozenBefore(superblock: string, thaw: Answer): boolean {
		const freeze = this.freezes.get(superblock);
		return freeze?.result === "frozen" && freeze.endedAtMs <= thaw.startedAtMs;
	}

	#noteOne(superblock: string, answer: Answer): void {
		if (freezeAnswers.includes(answer.result) && !this.freezes.has(superblock)) this.freezes.set(superblock, answer);
		if (thawAnswers.includes(answer.result)) this.noteThaw(superblock, answer);
	}
}

/** Every word that Stillpoint says to people, with what it means: one list for `stillpoint explain` and completions. */
import { distance } from "fastest-levenshtein";
import { errorCatalogue, exitStatuses } from "../contracts/errors.ts";
import { protectionReasons } from "../contracts/protection.ts";
import { becauseRemedies, becauseTexts } from "../contracts/report.ts";

export type Explanation = {
	readonly kind: "error" | "because" | "protection" | "exit-status";
	readonly word: string;
	readonly summary: string;
	readonly remedy?: string;
	readonly exit?: number;
	readonly retryable?: boolean;
	/** Codes that end a command with this exit status. */
	readonly codes?: readonly string[];
	readonly documentedAt: string;
};

export function listExplanations(): Explanation[] {
	const errors = Object.entries(errorCatalogue).map(([word, { summary, remedy, exit, retryable }]) => ({
		kind: "error" as const,
		word,
		summary,
		remedy,
		exit,
		retryable,
		documentedAt: `docs/errors.md#${word}`,
	}));
	const because = Object.entries(becauseTexts).map(([word, summary]) => ({
		kind: "because" as const,
		word,
		summary,
		remedy: becauseRemedies[word as keyof typeof becauseRemedies],
		documentedAt: "docs/because.md",
	}));
	const protection = Object.entries(protectionReasons).map(([word, reason]) => ({
		kind: "protection" as const,
		word,
		...reason,
		documentedAt: "docs/because.md#protection",
	}));
	const statuses = Object.entries(exitStatuses).map(([word, summary]) => ({
		kind: "exit-status" as const,
		word,
		summary,
		codes: errors.filter(({ exit }) => String(exit) === word).map((one) => one.word),
		documentedAt: "docs/errors.md#exit-statuses",
	}));
	return [...errors, ...because, ...protection, ...statuses];
}

export function explainableWords(): string[] {
	return [...new Set(listExplanations().map(({ word }) => word))];
}

/** All that a word means; when it means nothing, the nearest words that do. */
export function explain(word: string): { found: Explanation[]; nearest: string[] } {
	const all = listExplanations();
	const found = all.filter((one) => one.word === word);
	if (found.length > 0) return { found, nearest: [] };
	const words = explainableWords().filter((one) => !/^\d+$/.test(one));
	const byDistance = words.map((one) => ({ one, far: distance(word, one) })).sort((a, b) => a.far - b.far);
	const least = byDistance[0]?.far ?? 0;
	return { found, nearest: byDistance.filter(({ far }) => far === least).map(({ one }) => one) };
}

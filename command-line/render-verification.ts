import type { Verification } from "../contracts/verification.ts";
import { type Page, plainPage } from "./layout.ts";
import { humanMs, table } from "./output.ts";

/** A verification as a page for people: does the label agree with the images, then every finding. */
export function renderVerification(verification: Verification, page: Page = plainPage): string {
	const { label, looksLike, agrees } = verification;
	const lines = [
		`Recovery point ${verification.recoveryPointId}`,
		`  label ${label}, the images look like ${looksLike}: ${agrees ? "they agree" : "THE LABEL SAYS TOO MUCH"}` +
			`   (took ${humanMs(verification.durationMs)})`,
		"",
		table(
			[
				["", "disk", "check", "file system", "finding"],
				...verification.findings.map((one) => [one.status, one.disk, one.check, one.fileSystem ?? "", one.detail]),
			],
			{ page, head: true },
		),
	];
	return `${lines.join("\n")}\n`;
}

import { appendFileSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { copyProductScripts } from "../../fixtures/product-scripts.ts";

export type LaneScripts = {
	readonly folder: string;
	/** How long the next pre and post script take. */
	setDurations(durations: { preMs: number; postMs: number }): void;
	/** What the scripts of the job noted, in order: `pre`, `session`, `released WORD`, `post OUTCOME`. */
	notesOf(jobId: string): string[];
};

/**
 * A session, and a pair of pre and post: what an application has that is made quiet. They note what they do. With a
 * database, the product's own session script holds that, too.
 */
export async function writeLaneScripts(root: string, database?: string): Promise<LaneScripts> {
	const folder = join(root, "scripts.d");
	const notes = join(root, "script-notes");
	mkdirSync(folder, { mode: 0o755 });
	appendFileSync(notes, "");
	const note = (what: string) => `echo "$STILLPOINT_JOB_ID ${what}" >> ${notes}`;
	write("pre", `${note("pre")}\nsleep "$(cat ${root}/pre-seconds)"`);
	write("post", `sleep "$(cat ${root}/post-seconds)"\n${note("post $STILLPOINT_OUTCOME")}`);
	write(
		"session",
		`${note("session")}\nread -r input\necho ready\nread -r word outcome\n${note("released $word")}\necho held`,
	);
	const deadlineMs = 3_000;
	const step = (name: string) => ({ command: [join(root, `${name}.sh`)], deadlineMs });
	dropIn("10-session", { application: "held", order: 100, session: step("session") });
	dropIn("20-pair", { application: "quiet", order: 200, pre: step("pre"), post: step("post") });
	if (database !== undefined) {
		const { folder: product } = await copyProductScripts(root);
		const command = [join(product, "sqlite", "sqlite-hold.mjs"), database];
		dropIn("30-database", { application: "shop", order: 300, session: { command, deadlineMs } });
	}

	function write(name: string, body: string): void {
		writeFileSync(join(root, `${name}.sh`), `#!/bin/sh\n${body}\n`, { mode: 0o755 });
	}
	function dropIn(name: string, content: object): void {
		writeFileSync(join(folder, `${name}.json`), JSON.stringify({ version: 1, onFailure: "continue", ...content }));
	}
	const set = ({ preMs, postMs }: { preMs: number; postMs: number }) => {
		writeFileSync(join(root, "pre-seconds"), String(preMs / 1000));
		writeFileSync(join(root, "post-seconds"), String(postMs / 1000));
	};
	set({ preMs: 0, postMs: 0 });
	return {
		folder,
		setDurations: set,
		notesOf: (jobId) =>
			readFileSync(notes, "utf8")
				.split("\n")
				.filter((line) => line.startsWith(`${jobId} `))
				.map((line) => line.slice(jobId.length + 1)),
	};
}

import { readFileSync, writeFileSync } from "node:fs";

const path = "/proc/self/oom_score_adj";
const ordinary = "0";

/**
 * Until it is disposed of, children start with the OOM score that services have: those that hold a freeze are the last
 * that the kernel ends, and what they start for others must not be. Only around what is done at once.
 */
export function ordinaryOomScore(): Disposable {
	let before = ordinary;
	try {
		before = readFileSync(path, "utf8").trim();
		if (before !== ordinary) writeFileSync(path, ordinary);
	} catch {
		// Not allowed in some containers: then it was not changed before, either.
	}
	return {
		[Symbol.dispose]() {
			try {
				if (before !== ordinary) writeFileSync(path, before);
			} catch {
				// See above.
			}
		},
	};
}

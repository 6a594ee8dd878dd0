import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { startSessionScript } from "../../extensions/vm-snapshot-linux/script-runner/session-script.ts";
import { poll } from "../fixtures/poll.ts";
import { scriptContext, scriptStep } from "../fixtures/script-bench.ts";

const readRelease = "read -r input; read -r word outcome";
const blanks = (count: number) => `head -c ${count} /dev/zero | tr '\\0' ' '`;

/** A shell says the lines; nothing of them is a file. */
function start(script: string, deadlineMs = 60_000) {
	const step = scriptStep(["/bin/sh", "-c", script], { phase: "session", deadlineMs });
	return startSessionScript(step, scriptContext());
}

describe("what a session script prints", () => {
	test.each([
		["lines that end as on Windows", `printf 'ready\\r\\n'; ${readRelease}; printf 'held\\r\\n'`],
		["blanks at the end of a line", `echo 'ready  '; ${readRelease}; echo 'held  '`],
		["no end of the last line", `echo ready; ${readRelease}; printf held`],
		["a line in pieces", `printf rea; sleep 0.1; printf 'dy\\n'; ${readRelease}; printf he; sleep 0.1; printf 'ld\\n'`],
		["ready twice", `echo ready; echo ready; ${readRelease}; echo ready; echo held`],
		["held twice", `echo ready; ${readRelease}; echo held; echo held`],
		["words of its own between", `echo preparing; echo ready; echo working; ${readRelease}; echo fine; echo held`],
		["100 000 lines before it is ready", `yes hello | head -n 100000; echo ready; ${readRelease}; echo held`],
		[
			"64 MB without a line end before each word",
			`head -c 67108864 /dev/zero; printf '\\nready\\n'; ${readRelease}; head -c 67108864 /dev/zero; printf '\\nheld\\n'`,
		],
		[
			"random bytes before each word",
			`head -c 9999 /dev/urandom | tr -d '\\n'; printf '\\nready\\n'; ${readRelease}; echo held`,
		],
		["a flood beside it, on stderr, until it is let go", `yes >&2 & echo ready; ${readRelease}; kill $!; echo held`],
	])("%s does not keep it from holding", async (_what, script) => {
		const session = await start(script);
		expect(session.failure).toBeUndefined();
		expect(session.lost.aborted).toBe(false);
		const report = await session.release("snapshot");
		expect(report.error).toBeUndefined();
		expect(report).toMatchObject({ held: true, exitCode: 0, timedOut: false });
		expect(Buffer.byteLength(report.outputTail)).toBeLessThanOrEqual(3 * 4096);
	});

	test.each([
		["ready in a longer line", "echo ready now; sleep 30"],
		["blanks before it", "echo ' ready'; sleep 30"],
		["ready in capitals", "echo READY; sleep 30"],
		["ready without a line end", "printf ready; sleep 30"],
		["ready and a NUL", "printf 'ready\\0\\n'; sleep 30"],
		["ready, blanks beyond the limit, and more", `printf ready; ${blanks(5000)}; echo not; sleep 30`],
		["ready, blanks beyond the limit, the rest later", `printf ready; ${blanks(5000)}; sleep 0.1; echo; sleep 30`],
		["no end of lines that say nothing", "yes hello"],
		["no end of one line", "cat /dev/zero"],
		["no end of noise", "cat /dev/urandom"],
	])("%s is not ready", async (_what, script) => {
		const session = await start(script, 700);
		expect(session.failure).toMatchObject({ code: "script-timeout" });
		expect(await session.release("no-snapshot")).toMatchObject({ held: false, error: { code: "script-timeout" } });
	});

	test.each([
		["held in a longer line", `echo ready; ${readRelease}; echo held on`],
		["held, blanks beyond the limit, and more", `echo ready; ${readRelease}; printf held; ${blanks(5000)}; echo not`],
		[
			"held, blanks beyond the limit, the rest later",
			`echo ready; ${readRelease}; printf held; ${blanks(5000)}; sleep 0.1; echo`,
		],
		["held and a NUL", `echo ready; ${readRelease}; printf 'held\\0\\n'`],
		["held on stderr", `echo ready; ${readRelease}; echo held >&2`],
		["held, then lost", `echo ready; ${readRelease}; echo held; echo lost`],
		["lost, then held", `echo ready; ${readRelease}; echo lost the lock; echo held`],
		[
			"lost with a reason beyond the limit, then held",
			`echo ready; ${readRelease}; printf 'lost '; ${blanks(5000)}; echo; echo held`,
		],
		["noise", `echo ready; ${readRelease}; head -c 9999 /dev/urandom`],
	])("%s proves nothing", async (_what, script) => {
		const session = await start(script);
		expect(session.failure).toBeUndefined();
		expect(await session.release("snapshot")).toMatchObject({ held: false, error: { code: "script-hold-lost" } });
	});

	test.each([
		["held before ready", `echo held; echo ready; ${readRelease}; echo held`],
		["held with ready", `printf 'ready\\nheld\\n'; ${readRelease}; echo held`],
		["lost before ready", `echo lost; echo ready; ${readRelease}; echo held`],
		["lost while it holds", `echo ready; echo lost the lock; ${readRelease}; echo held`],
	])("%s is lost at once, whatever follows", async (_what, script) => {
		const session = await start(script);
		await poll(() => session.lost.aborted).toBe(true);
		expect(await session.release("snapshot")).toMatchObject({ held: false, error: { code: "script-hold-lost" } });
	});

	test("held without end after its release is ended at the deadline", async () => {
		const session = await start(`echo ready; ${readRelease}; yes held`, 700);
		expect(session.failure).toBeUndefined();
		await sleep(50);
		expect(await session.release("snapshot")).toMatchObject({ held: false, error: { code: "script-timeout" } });
	});

	test("held without end proves nothing, also when it ends well as soon as it is asked to", async () => {
		const text = `trap 'exit 0' TERM; echo ready; ${readRelease}; echo held; while :; do sleep 0.05; done`;
		const session = await start(text, 700);
		expect(session.failure).toBeUndefined();
		const report = await session.release("snapshot");
		expect(report).toMatchObject({ held: false, exitCode: 0, timedOut: true, error: { code: "script-timeout" } });
	});

	test("the reason of a loss that is longer than a paragraph is cut", async () => {
		const session = await start(
			`echo ready; printf 'lost '; head -c 4000 /dev/zero | tr '\\0' x; echo; ${readRelease}`,
		);
		await poll(() => session.lost.aborted).toBe(true);
		expect((await session.release("snapshot")).error?.message).toMatch(/: x{1000}…$/);
	});

	test("the reason of a loss is kept whole, also where a letter comes in two pieces", async () => {
		const session = await start(
			`echo ready; printf 'lost M\\303'; sleep 0.1; printf '\\274hle\\n'; ${readRelease}; echo held`,
		);
		await poll(() => session.lost.aborted).toBe(true);
		expect((await session.release("snapshot")).error?.message).toContain("Mühle");
	});
});

import { connect, createServer } from "node:net";
import { join } from "node:path";
import { expect, test } from "vitest";
import { maxFrameBytes } from "../../contracts/controller-messages.ts";
import { makeFakeReport } from "../fakes/fake-report.ts";
import { addFakeAgent, makeTestFolder, startController } from "../fixtures/controller-run.ts";

const chunkEveryMs = 120;

/** Passes on one read of what the agent sends (at most 64 KiB) in each chunk's time, and all else at once. */
async function startSlowLine(port: number) {
	const server = createServer((down) => {
		const up = connect(port, "127.0.0.1");
		up.pipe(down);
		down.on("data", (data) => {
			up.write(data);
			down.pause();
			setTimeout(() => down.resume(), chunkEveryMs);
		});
		for (const socket of [down, up])
			socket
				.on("error", () => {})
				.on("close", () => {
					up.destroy();
					down.destroy();
				});
	});
	await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
	const { port: own } = server.address() as { port: number };
	return { url: `https://127.0.0.1:${own}`, [Symbol.dispose]: () => void server.close() };
}

test("a report near the limit that takes longer than the heartbeat's limit on a slow line ends no link", async () => {
	await using folder = await makeTestFolder();
	await using controller = await startController(join(folder.path, "state"));
	using line = await startSlowLine(controller.info.port);
	await using agent = await addFakeAgent(controller, {}, { url: line.url });
	const report = makeFakeReport({ jobId: "large", level: "crash", acceptLevel: "crash" }, "crash");
	const outputTail = "x".repeat(maxFrameBytes - 2_000);
	const script = { name: "s", phase: "pre" as const, timedOut: false, durationMs: 1, outputTail };
	const begunMs = performance.now();
	agent.report({ ...report, scripts: [script] });
	await agent.until("ack", 60_000);
	// Longer than four ticks of the heartbeat, or nothing was proved.
	expect(performance.now() - begunMs).toBeGreaterThan(5_500);
	expect(agent.story).not.toContain("closed");
	expect(controller.lines.join("\n")).not.toMatch(/silent/);
});

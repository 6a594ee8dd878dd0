import { rmSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { addFakeAgent, makeImage, makeTestFolder, startController } from "../fixtures/controller-run.ts";
import { poll } from "../fixtures/poll.ts";

test("a failed job waits long for its report while something may be frozen, and else only to show it", async () => {
	await using folder = await makeTestFolder();
	const limits = { lateReportMs: 600_000, shownReportMs: 100 };
	await using controller = await startController(join(folder.path, "state"), { limits });
	const addImage = (name: string) => makeImage(join(folder.path, name), 65_536, [{ offset: 0, length: 4096 }]);
	const images = [await addImage("before.img"), await addImage("after.img")] as const;
	const silentOn = ["thawed", "report"] as const;
	await using before = await addFakeAgent(controller, { vda: images[0] }, { silentOn });
	await using after = await addFakeAgent(controller, { vda: images[1] }, { silentOn, whenFrozen: cancel });
	async function cancel(): Promise<void> {
		await controller.client.cancelJob("after");
	}
	rmSync(images[0]);
	await controller.client.orderSnapshot(after.agentId, { jobId: "after" });
	await poll(async () => (await controller.client.readJob("after")).state).toBe("thawing");
	await controller.client.orderSnapshot(before.agentId, { jobId: "before" });
	const failed = await controller.client.waitForJob("before");
	expect(failed).toMatchObject({ state: "failed" });
	expect(failed.report).toBeUndefined();
	expect(before.story).not.toContain("freeze");
	// It has waited longer than the other one.
	expect((await controller.client.readJob("after")).state).toBe("thawing");
	await after.disconnect();
	expect(await controller.client.waitForJob("after")).toMatchObject({ state: "failed", error: { code: "cancelled" } });
});

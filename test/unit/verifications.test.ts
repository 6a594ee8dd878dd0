import { expect, test } from "vitest";
import type { Verification } from "../../contracts/verification.ts";
import type { RecoveryPointFolders } from "../../controller/recovery-points.ts";
import { makeVerifications } from "../../controller/verifications.ts";

const folders = { folderOf: (id: string) => id } as RecoveryPointFolders;
const done = { verdict: "good" } as unknown as Verification;

test("a verification that hangs ends at its limit, is told so, and the next one begins anew", async () => {
	const signals: AbortSignal[] = [];
	const hangFirst = (_: string, signal: AbortSignal) => {
		signals.push(signal);
		return signals.length === 1 ? new Promise<never>(() => {}) : Promise.resolve(done);
	};
	const { verify } = makeVerifications(folders, hangFirst, new AbortController().signal, 30);
	await expect(verify("one")).rejects.toMatchObject({ code: "deadline-passed" });
	expect(signals[0]?.aborted).toBe(true);
	expect(await verify("one")).toBe(done);
});

test("a verification that ends in time is not aborted by its limit (negative control)", async () => {
	const signals: AbortSignal[] = [];
	const look = async (_: string, signal: AbortSignal) => {
		signals.push(signal);
		return done;
	};
	const { verify } = makeVerifications(folders, look, new AbortController().signal, 30);
	expect(await verify("one")).toBe(done);
	await new Promise((resolve) => setTimeout(resolve, 60));
	expect(signals[0]?.aborted).toBe(false);
});

/** One whole job over each shape of storage: who waits, what is said, and what the images are worth. */
import { randomUUID } from "node:crypto";
import { mkdir, mkdtemp, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { OrderInput } from "../../contracts/order.ts";
import type { RecoveryPoint } from "../../contracts/recovery-point.ts";
import type { NotCovered, Report } from "../../contracts/report.ts";
import { readImageIdentity } from "../../controller/verify/image-identity.ts";
import { verifyRecoveryPoint } from "../../controller/verify/verify-recovery-point.ts";
import { copyImage } from "../fixtures/held-recovery-point.ts";
import { startGuard } from "../fixtures/loop-file-system.ts";
import { lacksForShape, openShape, type Shape, type ShapeKind, shapeKinds } from "../fixtures/shapes.ts";
import { toFrozen } from "../fixtures/snapshot-asker.ts";
import { startTestHost } from "../fixtures/snapshot-host.ts";
import { isWritable } from "../fixtures/writable.ts";

type Expected = {
	/** How many file systems are frozen. */
	readonly frozen: number;
	/** What else is said of it. */
	readonly notCovered?: readonly NotCovered["why"][];
};

const expected: Readonly<Record<ShapeKind, Expected>> = {
	flat: { frozen: 3 },
	nested: { frozen: 3 },
	bind: { frozen: 1 },
	btrfs: { frozen: 1 },
	"over-mounted": { frozen: 2 },
	namespace: { frozen: 2 },
	"swap-file": { frozen: 1, notCovered: ["swap"] },
	"own-state": { frozen: 1 },
};

describe.concurrent("a job over a shape of storage", () => {
	let dir: string;
	let guard: Disposable;
	beforeAll(async () => {
		dir = await mkdtemp("/var/lib/stillpoint-test-");
		guard = startGuard({ dir, limitMs: 120_000 });
	});
	afterAll(async () => {
		guard[Symbol.dispose]();
		await rm(dir, { recursive: true, force: true });
	});

	for (const kind of shapeKinds) {
		const missing = lacksForShape(kind);
		test.skipIf(missing)(
			`${kind}: all of it waits, and its images are worth it${missing ? `: ${missing}` : ""}`,
			async () => {
				const { frozen, notCovered = [] } = expected[kind];
				await using shape = await openShape(kind, { dir });
				const jobId = `${kind}-${randomUUID()}`.slice(0, 40);
				const order: OrderInput = {
					jobId,
					level: "file-system",
					acceptLevel: "crash",
					disks: { include: [...shape.disks] },
					holdLimitMs: 30_000,
				};
				await using host = await startTestHost({ order });
				await toFrozen(host);
				expect((await host.event("frozen")).worth).toBe("file-system");
				expect(await writable(shape, 300), "who may write during the hold").toEqual([]);
				const folder = join(dir, jobId);
				await mkdir(folder);
				await Promise.all(shape.images.map(({ disk, imagePath }) => copyImage(imagePath, join(folder, disk))));
				host.tell({
					type: "done",
					jobId,
					disks: shape.disks.map((name) => ({ name, ok: true, snapshotId: name, provider: "test" })),
				});
				const identities = await Promise.all(
					shape.disks.map(async (name) => ({ name, identity: await readImageIdentity(join(folder, name)) })),
				);
				host.tell({ type: "described", jobId, disks: identities });
				const report = await host.report();
				expect(report.error).toBeUndefined();
				expect(report).toMatchObject({ achieved: "file-system", because: [] });
				expect(report.fileSystems.map(({ result }) => result)).toEqual(Array.from({ length: frozen }, () => "thawed"));
				const said = report.notCovered.filter(({ what }) => what.startsWith(`${shape.folder}/`));
				expect(said.map(({ why }) => why)).toEqual(notCovered);
				expect(await writable(shape)).toEqual(shape.writable);
				expect(await shape.checkShape()).toEqual([]);
				await writeRecoveryPoint(folder, shape, report);
				const { findings } = await verifyRecoveryPoint(folder, {
					scratchDir: dir,
					databaseServers: false,
					signal: AbortSignal.timeout(60_000),
				});
				expect(
					findings.filter(({ status }) => status !== "pass").map(({ check, detail }) => `${check}: ${detail}`),
				).toEqual([]);
				expect(findings.length).toBeGreaterThan(frozen);
				await rm(folder, { recursive: true });
			},
		);
	}
});

async function writable({ writable: folders }: Shape, limitMs?: number): Promise<string[]> {
	const answers = await Promise.all(folders.map((folder) => isWritable(folder, limitMs)));
	return folders.filter((_, index) => answers[index]);
}

async function writeRecoveryPoint(folder: string, { disks }: Shape, report: Report): Promise<void> {
	const recoveryPoint: RecoveryPoint = {
		schemaVersion: 1,
		id: `rp-${report.jobId}`,
		agentId: "agent-1",
		jobId: report.jobId,
		createdAt: new Date().toISOString(),
		provider: "image-files",
		level: "file-system",
		disks: await Promise.all(
			disks.map(async (name) => ({
				name,
				image: name,
				sizeBytes: (await stat(join(folder, name))).size,
				method: "copy" as const,
				copyMs: 1,
				identity: await readImageIdentity(join(folder, name)),
			})),
		),
		machine: { hostname: "guest" },
		report,
	};
	await writeFile(join(folder, "manifest.json"), JSON.stringify(recoveryPoint));
}

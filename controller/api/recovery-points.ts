import { z } from "zod";
import { StillpointError } from "../../contracts/errors.ts";
import { recoveryPointSchema } from "../../contracts/recovery-point.ts";
import { verificationSchema } from "../../contracts/verification.ts";
import { type ApiParts, defineRoute } from "./route.ts";
import { noBody, nothing, recoveryPointParams } from "./route-parts.ts";

const at = { tag: "Recovery points", access: "viewer" } as const;

async function requireRecoveryPoint({ store }: ApiParts, id: string): Promise<string> {
	if ((await store.findRecoveryPoint(id)) === undefined)
		throw new StillpointError("not-found", `no recovery point ${id}`);
	return id;
}

export const recoveryPointRoutes = [
	defineRoute({
		...at,
		id: "listRecoveryPoints",
		method: "GET",
		path: "/v1/recovery-points",
		summary: "Manifests of the recovery points, the newest first.",
		description: "One whose manifest cannot be read is left out.",
		params: nothing,
		query: z.strictObject({ agentId: z.string().max(64).optional() }),
		status: 200,
		answer: z.object({ recoveryPoints: z.array(recoveryPointSchema) }),
		errors: [],
		async handle({ store, folders }, { query }) {
			const found = [];
			for (const { id } of await store.listRecoveryPoints(query.agentId)) {
				// One that somebody removed or damaged must not hide the others.
				const recoveryPoint = await folders.readManifest(id).catch(() => undefined);
				if (recoveryPoint !== undefined) found.push(recoveryPoint);
			}
			return { recoveryPoints: found };
		},
	}),
	defineRoute({
		...at,
		id: "readRecoveryPoint",
		method: "GET",
		path: "/v1/recovery-points/{recoveryPointId}",
		summary: "The manifest of one recovery point: disks, level, evidence.",
		params: recoveryPointParams,
		query: nothing,
		status: 200,
		answer: recoveryPointSchema,
		errors: ["not-found", "recovery-point-invalid"],
		handle: async (parts, { params }) =>
			parts.folders.readManifest(await requireRecoveryPoint(parts, params.recoveryPointId)),
	}),
	defineRoute({
		...at,
		id: "verifyRecoveryPoint",
		method: "POST",
		path: "/v1/recovery-points/{recoveryPointId}/verify",
		access: "operator",
		summary: "Look at the images: are they what the label says?",
		description: "Takes as long as it takes; the images are not changed, and the finding is kept beside the label.",
		params: recoveryPointParams,
		query: nothing,
		body: noBody,
		status: 200,
		answer: verificationSchema,
		errors: ["not-found", "recovery-point-invalid", "disk-full", "tool-missing", "image-unreadable"],
		audit: { action: "recovery-point.verify", tell: ({ params }) => ({ target: params.recoveryPointId }) },
		handle: async (parts, { params }) =>
			parts.verifications.verify(await requireRecoveryPoint(parts, params.recoveryPointId)),
	}),
	defineRoute({
		...at,
		id: "readVerification",
		method: "GET",
		path: "/v1/recovery-points/{recoveryPointId}/verification",
		summary: "The latest finding of a verification.",
		params: recoveryPointParams,
		query: nothing,
		status: 200,
		answer: verificationSchema,
		errors: ["not-found", "recovery-point-invalid"],
		handle: async (parts, { params }) =>
			parts.verifications.read(await requireRecoveryPoint(parts, params.recoveryPointId)),
	}),
];

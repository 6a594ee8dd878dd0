import { afterEach, beforeEach, expect, test } from "vitest";
import { startControllerLink } from "../../agent/link/controller-link.ts";
import type { Enrolment } from "../../agent/link/enrolment-file.ts";
import { StillpointError } from "../../contracts/errors.ts";
import { poll } from "../fixtures/poll.ts";

const machine = { machineId: "a".repeat(32), bootId: "b", hostname: "vm" };
const enrolled = { agentId: "agent-1", controllerUrl: "https://controller", machine } as unknown as Enrolment;

let stack: AsyncDisposableStack;
beforeEach(() => {
	stack = new AsyncDisposableStack();
});
afterEach(() => stack.disposeAsync());

/** A link whose attempts last until they are ended here. */
function startLink() {
	const attempts: { readonly signal: AbortSignal; fail(): void }[] = [];
	const now = { enrolment: enrolled };
	const stopping = new AbortController();
	const ports = {
		log: { debug() {}, info() {}, warn() {}, error() {} },
		runner: { mayBeFrozen: false, running: undefined },
		tickets: { find: async () => undefined },
		transport: {
			connect(_: unknown, signal: AbortSignal) {
				const { promise, reject } = Promise.withResolvers<never>();
				signal.addEventListener("abort", () => reject(signal.reason));
				attempts.push({ signal, fail: () => reject(new StillpointError("controller-unreachable", "refused")) });
				return promise;
			},
		},
		readMachine: async () => machine,
		findEnrolment: () => now.enrolment,
	};
	const link = stack.use(startControllerLink(ports as never, stopping.signal));
	return { link, attempts, now };
}

test("an attempt that is under way outlives reloads, and the next one follows its failure at once", async () => {
	const { link, attempts } = startLink();
	// The later ones would be seconds apart.
	for (let count = 1; count <= 12; count += 1) {
		await poll(() => attempts.length, 1_900).toBe(count);
		for (let turn = 0; turn < 3; turn += 1) link.reload();
		expect(attempts.at(-1)?.signal.aborted).toBe(false);
		attempts.at(-1)?.fail();
	}
});

test("a reload ends an attempt with an enrolment that was replaced", async () => {
	const { link, attempts, now } = startLink();
	await poll(() => attempts.length).toBe(1);
	now.enrolment = { ...enrolled, agentId: "agent-2" };
	link.reload();
	expect(attempts[0]?.signal.aborted).toBe(true);
	await poll(() => attempts.length).toBe(2);
});

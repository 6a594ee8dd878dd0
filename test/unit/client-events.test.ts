import { Agent } from "node:https";
import { duplexPair } from "node:stream";
import { expect, test } from "vitest";
import { StillpointError } from "../../contracts/errors.ts";
import { followEvents } from "../../controller/client-events.ts";

/** Whoever is asked answers so, and hangs up. */
function agentThatHears(answer: string): Agent {
	const agent = new Agent({ keepAlive: false });
	const createConnection = () => {
		const [near, far] = duplexPair();
		far.once("data", () => far.end(answer));
		const no = () => near;
		return Object.assign(near, { setNoDelay: no, setKeepAlive: no, setTimeout: no, ref: no, unref: no });
	};
	return Object.assign(agent, { createConnection });
}

test("following ends with the reason of the signal, also between two connections", async () => {
	const agent = agentThatHears(
		'HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\nid: 0123abcd-1\nevent: reset\ndata: {"type":"reset"}\n\n',
	);
	const reason = new StillpointError("cancelled", "enough");
	const enough = new AbortController();
	const events = followEvents({ url: "https://controller:1", agent, path: "/v1/events", signal: enough.signal });
	await expect(events.next()).resolves.toMatchObject({ value: { type: "reset" } });
	const next = events.next();
	setTimeout(() => enough.abort(reason), 50);
	await expect(next).rejects.toBe(reason);
});

test("a refusal that is cut short is a controller that can't be reached", async () => {
	const agent = agentThatHears("HTTP/1.1 409 Conflict\r\ncontent-length: 500\r\n\r\n{");
	const events = followEvents({ url: "https://controller:1", agent, path: "/v1/events" });
	await expect(events.next()).rejects.toMatchObject({ code: "controller-unreachable" });
});

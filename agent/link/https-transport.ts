import type { ControllerTransport } from "./link-transport.ts";

/**
 * TLS 1.3 to the controller, through an HTTP proxy when the configuration names one. TLS is loaded with the first use:
 * an agent that has no controller does without its 5 MiB.
 */
export function makeHttpsTransport(proxyUrl: string | undefined): ControllerTransport {
	const proxy = proxyUrl === undefined ? undefined : new URL(proxyUrl);
	return {
		async findAuthority(url, fingerprint, signal) {
			const { findControllerCa } = await import("./find-controller-ca.ts");
			return await findControllerCa({ url, proxy }, fingerprint, signal);
		},
		async post(to, body, signal) {
			const { postJson } = await import("./post-json.ts");
			return await postJson({ ...to, proxy }, body, signal);
		},
		async connect(target, signal) {
			const { connectWebSocket } = await import("./web-socket-connection.ts");
			return await connectWebSocket({ ...target, url: new URL(target.url), proxy }, signal);
		},
	};
}

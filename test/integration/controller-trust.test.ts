import { chmod, copyFile, mkdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { connect } from "node:tls";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { WebSocket } from "ws";
import { openCertificateAuthority } from "../../controller/certificate-authority.ts";
import { loadX509 } from "../../platform/x509.ts";
import { enrolFakeAgent, exchange, fakeMachine, makeKeyAndRequest, postEnrol } from "../fakes/fake-enrolment.ts";
import { type ControllerRun, makeTestFolder, startController } from "../fixtures/controller-run.ts";

let folder: Awaited<ReturnType<typeof makeTestFolder>>;
let controller: ControllerRun;

beforeAll(async () => {
	folder = await makeTestFolder();
	controller = await startController(join(folder.path, "state"));
});
afterAll(async () => {
	await controller[Symbol.asyncDispose]();
	await folder[Symbol.asyncDispose]();
});

async function enrolWith(token: string, csr?: string) {
	const request = csr ?? (await makeKeyAndRequest()).csr;
	return postEnrol(controller.info.url, controller.access.ca, { token, csr: request, machine: fakeMachine });
}

describe("enrolment", () => {
	test("a token is good once, also for ten that come at the same time", async () => {
		const { token } = await controller.client.createToken();
		const answers = await Promise.all(Array.from({ length: 10 }, () => enrolWith(token)));
		expect(answers.filter(({ status }) => status === 201)).toHaveLength(1);
		const refused = answers.filter(({ status }) => status !== 201);
		expect(refused.map(({ body }) => body.error?.code)).toEqual(Array(9).fill("token-invalid"));
		expect((await enrolWith(token)).body.error?.code).toBe("token-invalid");
	});

	test("an expired token is refused", async () => {
		const { token, expiresAt } = await controller.client.createToken(1_000);
		await new Promise((resolve) => setTimeout(resolve, Date.parse(expiresAt) - Date.now() + 50));
		expect((await enrolWith(token)).body.error?.code).toBe("token-invalid");
	});

	test("a forged token is refused: another secret, another id, another CA, no token at all", async () => {
		const { token } = await controller.client.createToken();
		const [version, id, secret, ca] = token.split(".") as [string, string, string, string];
		const flip = (text: string) => (text.startsWith("a") ? `b${text.slice(1)}` : `a${text.slice(1)}`);
		const forged = [
			[version, id, flip(secret), ca],
			[version, flip(id), secret, ca],
			[version, id, secret, flip(ca)],
		];
		for (const parts of [...forged, ["x"]]) {
			const { status, body } = await enrolWith(parts.join("."));
			expect([status, body.error?.code]).toEqual([403, "token-invalid"]);
		}
		expect((await enrolWith(token)).status).toBe(201);
	});

	test("a bad certificate request is refused and does not use the token up", async () => {
		const { token } = await controller.client.createToken();
		const { csr } = await makeKeyAndRequest();
		const lines = csr.trim().split("\n");
		const broken = Buffer.from(lines.slice(1, -1).join(""), "base64");
		broken.writeUInt8(broken.readUInt8(broken.length - 1) ^ 1, broken.length - 1);
		const wrongSignature = `${lines[0]}\n${broken.toString("base64")}\n${lines.at(-1)}`;
		const rsa = await makeKeyAndRequest("CN=x", {
			name: "RSASSA-PKCS1-v1_5",
			hash: "SHA-256",
			publicExponent: new Uint8Array([1, 0, 1]),
			modulusLength: 2048,
		});
		for (const bad of ["", "garbage", wrongSignature, csr.slice(0, 200), rsa.csr]) {
			const { status, body } = await enrolWith(token, bad);
			expect([status, body.error?.code]).toEqual([403, "certificate-invalid"]);
		}
		expect((await enrolWith(token)).status).toBe(201);
	});

	test("the request's subject is ignored: who asks to be an operator becomes an agent for 90 days", async () => {
		const { token } = await controller.client.createToken();
		const { body } = await enrolWith(token, (await makeKeyAndRequest("CN=operator,OU=operator")).csr);
		const { X509Certificate } = await loadX509();
		const certificate = new X509Certificate(body.certificate as string);
		expect(certificate.subjectName.getField("OU")).toEqual(["agent"]);
		expect(certificate.subjectName.getField("CN")).toEqual([body.agentId]);
		const days = (certificate.notAfter.getTime() - Date.now()) / 86_400_000;
		expect(Math.round(days)).toBe(90);
	});
});

describe("who may do what", () => {
	const ask = (path: string, identity: { cert?: string; key?: string } = {}) =>
		exchange(`${controller.info.url}${path}`, { ca: controller.access.ca, ...identity });
	const codeOf = (answer: { text: string }) => JSON.parse(answer.text).error.code;
	const openLink = (identity: { cert?: string; key?: string }) =>
		new Promise<{ status: number; code?: string }>((resolve, reject) => {
			const socket = new WebSocket(`${controller.info.url.replace("https", "wss")}/v1/link`, {
				ca: controller.access.ca,
				...identity,
			});
			socket.on("open", () => {
				socket.terminate();
				resolve({ status: 101 });
			});
			socket.on("error", reject);
			socket.on("unexpected-response", (_, response) => {
				const chunks: Buffer[] = [];
				response.on("data", (chunk) => chunks.push(chunk));
				response.on("end", () => {
					const { error } = JSON.parse(Buffer.concat(chunks).toString());
					resolve({ status: response.statusCode ?? 0, code: error.code });
				});
			});
		});

	test("without a certificate only enrolment answers", async () => {
		const answer = await ask("/v1/agents");
		expect([answer.status, codeOf(answer)]).toEqual([403, "not-allowed"]);
		expect(await openLink({})).toEqual({ status: 403, code: "not-allowed" });
	});

	test("an agent may open the link and nothing else, an operator the API and no link", async () => {
		const { token } = await controller.client.createToken();
		const agent = await enrolFakeAgent(controller.info.url, token);
		expect(codeOf(await ask("/v1/agents", agent))).toBe("not-allowed");
		expect(codeOf(await ask("/v1/jobs", agent))).toBe("not-allowed");
		expect(await openLink(agent)).toEqual({ status: 101 });
		const { cert, key } = controller.access;
		expect((await ask("/v1/agents", { cert, key })).status).toBe(200);
		expect(await openLink({ cert, key })).toEqual({ status: 403, code: "not-allowed" });
	});

	test("certificates of another CA are refused, whatever they say", async () => {
		const other = await openCertificateAuthority(join(folder.path, "other-ca"));
		const { key, certificate: cert } = await other.issueOperator();
		expect(codeOf(await ask("/v1/agents", { cert, key }))).toBe("certificate-invalid");
		expect((await openLink({ cert, key })).code).toBe("certificate-invalid");
	});

	test("an agent that this controller never enrolled is refused, though its certificate is good", async () => {
		const authority = await openCertificateAuthority(join(folder.path, "state", "ca"));
		const { key, csr } = await makeKeyAndRequest();
		const cert = await authority.issueAgent("agent-unknown", csr);
		expect(await openLink({ cert, key })).toEqual({ status: 403, code: "not-enrolled" });
	});

	test("TLS below 1.3 is refused", async () => {
		const connectWith = (maxVersion: "TLSv1.2" | "TLSv1.3") =>
			new Promise<string>((resolve) => {
				const { port } = controller.info;
				const socket = connect({ port, host: "127.0.0.1", ca: controller.access.ca, maxVersion }, () => {
					resolve(socket.getProtocol() ?? "none");
					socket.destroy();
				});
				socket.on("error", () => resolve("refused"));
			});
		expect(await connectWith("TLSv1.2")).toBe("refused");
		expect(await connectWith("TLSv1.3")).toBe("TLSv1.3");
	});
});

describe("the state folder", () => {
	test("secrets are for their owner alone", async () => {
		const modeOf = async (path: string) => (await stat(join(folder.path, "state", path))).mode & 0o777;
		for (const name of ["", "ca", "operator", "recovery-points"]) expect(await modeOf(name)).toBe(0o700);
		for (const name of ["ca/key.pem", "operator/key.pem", "controller.sqlite"]) expect(await modeOf(name)).toBe(0o600);
	});

	test("a state folder that others may write to is refused", async () => {
		const stateDir = join(folder.path, "open");
		await mkdir(stateDir);
		await chmod(stateDir, 0o777);
		await expect(startController(stateDir)).rejects.toMatchObject({ code: "state-unusable" });
		await chmod(stateDir, 0o755);
		await (await startController(stateDir)).stop();
	});

	test.each([
		["a database that is none", "controller.sqlite", "garbage", "state-unusable"],
		["a certificate authority without its key", "ca/key.pem", undefined, "state-unusable"],
		["a certificate authority with another key", "ca/key.pem", "operator/key.pem", "state-unusable"],
		["a certificate that is none", "ca/cert.pem", "garbage", "state-unusable"],
	] as const)("%s is refused, and left as it is", async (_, path, content, code) => {
		await using own = await makeTestFolder();
		const stateDir = join(own.path, "state");
		await (await startController(stateDir)).stop();
		const broken = join(stateDir, path);
		if (content === undefined) await rm(broken);
		else if (content === "garbage") await writeFile(broken, "garbage ".repeat(1000));
		else await copyFile(join(stateDir, content), broken);
		const before = content === undefined ? undefined : await readFile(broken);
		await expect(startController(stateDir)).rejects.toMatchObject({ code });
		if (before !== undefined) expect(await readFile(broken)).toEqual(before);
	});

	test("a database of a newer controller is refused", async () => {
		await using own = await makeTestFolder();
		const stateDir = join(own.path, "state");
		await (await startController(stateDir)).stop();
		const database = new DatabaseSync(join(stateDir, "controller.sqlite"));
		database.exec("pragma user_version = 99");
		database.close();
		await expect(startController(stateDir)).rejects.toMatchObject({ code: "version-unsupported" });
	});

	test("a port that is taken is named", async () => {
		const start = startController(join(folder.path, "second"), { port: controller.info.port });
		await expect(start).rejects.toMatchObject({ code: "address-unusable" });
	});

	test("a second controller on the same folder is refused, the first goes on", async () => {
		await expect(startController(join(folder.path, "state"))).rejects.toMatchObject({ code: "already-running" });
		expect(await controller.client.listAgents()).toBeInstanceOf(Array);
	});

	test("CA and operator survive a restart; the ready file is there only while it runs", async () => {
		const stateDir = join(folder.path, "restarted");
		const first = await startController(stateDir);
		const { ca, cert } = first.access;
		await first.stop();
		await expect(stat(join(stateDir, "controller.json"))).rejects.toMatchObject({ code: "ENOENT" });
		await using second = await startController(stateDir);
		expect([second.access.ca, second.access.cert]).toEqual([ca, cert]);
	});
});

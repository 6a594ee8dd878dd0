import { describe, expect, test } from "vitest";
import type { FileSystemReport, Report } from "../../contracts/report.ts";
import type { Finding } from "../../contracts/verification.ts";
import { parseManifest } from "../../controller/recovery-point-manifest.ts";
import { judgeMembers, judgeMirrors } from "../../controller/verify/btrfs-check.ts";
import { judgeAnswer } from "../../controller/verify/databases/sqlite-check.ts";
import { agreesWith, looksLike } from "../../controller/verify/look-of-images.ts";
import { judgeSameInstant } from "../../controller/verify/same-instant-check.ts";
import { parseBtrfsSuperblock } from "../../controller/verify/superblock-btrfs.ts";
import { btrfsSuperblock } from "../fixtures/superblock-bytes.ts";

const finding = (
	check: Finding["check"],
	status: Finding["status"],
	fileSystem: string | undefined = "u",
): Finding => ({
	disk: "vda",
	check,
	status,
	detail: "",
	...(fileSystem === undefined ? {} : { fileSystem }),
});
const still = finding("still", "pass");

describe("what the images look like", () => {
	test("still passed everywhere and nothing failed: file-system", () => {
		expect(looksLike([still, finding("torn", "pass"), finding("files", "unknown")])).toBe("file-system");
	});

	test.each(["torn", "mapping", "same-instant", "structure", "members", "files"] as const)(
		"a failed %s makes it crash",
		(check) => {
			expect(looksLike([still, finding(check, "fail")])).toBe("crash");
			expect(agreesWith("file-system", "crash", [still, finding(check, "fail")])).toBe(false);
		},
	);

	test("an unknown still never counts as a pass", () => {
		expect(looksLike([still, finding("still", "unknown")])).toBe("crash");
	});

	test("no file system at all looks like none", () => {
		expect(looksLike([finding("mapping", "pass")])).toBe("none");
	});

	test("a failed database is no matter of the look, but of an application label", () => {
		const findings = [still, finding("database", "fail")];
		expect(looksLike(findings)).toBe("file-system");
		expect(agreesWith("file-system", "file-system", findings)).toBe(true);
		expect(agreesWith("application", "file-system", findings)).toBe(false);
		expect(agreesWith("application", "file-system", [still, finding("database", "unknown")])).toBe(true);
	});

	test("a label lower than the look is no lie, unless the image is broken", () => {
		expect(agreesWith("crash", "crash", [finding("still", "fail")])).toBe(true);
		const { fileSystem: _none, ...broken } = finding("structure", "fail");
		expect(agreesWith("crash", "crash", [still, broken])).toBe(false);
	});
});

describe("same instant", () => {
	const report = {
		jobId: "job-1",
		frozenAt: "2026-01-01T00:00:10.000Z",
		thawedAt: "2026-01-01T00:00:11.000Z",
	} as Report;
	const reported = { marker: "nonce" } as FileSystemReport;
	const content = JSON.stringify({ jobId: "job-1", marker: "nonce", writtenAt: "2026-01-01T00:00:09Z" });
	const judge = (markers: string[] | undefined, marker = true, writtenAtSeconds?: number) =>
		judgeSameInstant({ report, reported: marker ? reported : ({} as FileSystemReport), markers, writtenAtSeconds })
			.status;
	const at = (text: string) => Date.parse(text) / 1000;

	test("the right marker passes; none, a foreign or an overwritten one fails; not looked at is unknown", () => {
		expect(judge([`${content}\n`])).toBe("pass");
		expect(judge([])).toBe("fail");
		expect(judge([content.replace("nonce", "other")])).toBe("fail");
		expect(judge([content.replace("job-1", "job-2")])).toBe("fail");
		expect(judge([" ".repeat(100)])).toBe("fail");
		expect(judge(["null"])).toBe("fail");
		expect(judge(undefined)).toBe("unknown");
	});

	test("without a marker the time on the disk must lie in the window, give or take two seconds", () => {
		expect(judge([], false, at("2026-01-01T00:00:10Z"))).toBe("pass");
		expect(judge([], false, at("2026-01-01T00:00:08Z"))).toBe("pass");
		expect(judge([], false, at("2026-01-01T00:00:06Z"))).toBe("fail");
		expect(judge([], false, at("2026-01-01T00:00:14Z"))).toBe("fail");
		expect(judge([], false, 2 ** 40)).toBe("fail");
		expect(judge([], false)).toBe("unknown");
	});

	test("a file system that the report does not tell of is unknown", () => {
		expect(judgeSameInstant({ report, reported: undefined, markers: [], writtenAtSeconds: 0 }).status).toBe("unknown");
	});
});

describe("btrfs", () => {
	const of = (options: Parameters<typeof btrfsSuperblock>[0] & { devices?: bigint }) => {
		const parsed = parseBtrfsSuperblock(btrfsSuperblock(options));
		return parsed && { ...parsed, deviceCount: Number(options.devices ?? 1n) };
	};

	test("all members of one transaction pass; of two, missing or doubled fail", () => {
		const one = of({ devices: 2n, deviceId: 1n });
		const two = of({ devices: 2n, deviceId: 2n });
		expect(judgeMembers([one, two]).status).toBe("pass");
		expect(judgeMembers([one]).status).toBe("fail");
		expect(judgeMembers([one, one]).status).toBe("fail");
		expect(judgeMembers([one, undefined]).status).toBe("fail");
		expect(judgeMembers([one, of({ devices: 2n, deviceId: 2n, generation: 8n })]).status).toBe("fail");
	});

	test("a mirror of another generation, or a damaged one, is torn", () => {
		expect(judgeMirrors([of({}), of({})]).status).toBe("pass");
		expect(judgeMirrors([of({}), of({ generation: 8n })]).status).toBe("fail");
		expect(judgeMirrors([of({}), undefined]).status).toBe("fail");
	});
});

test("a database passes by its own checks only; broken references say nothing of the copy", () => {
	const answer = (value: unknown) => judgeAnswer(JSON.stringify(value)).status;
	expect(answer({ integrity: ["ok"], foreignKeys: 0, tables: 1 })).toBe("pass");
	expect(answer({ integrity: ["row 1 missing from index"], foreignKeys: 0, tables: 1 })).toBe("fail");
	expect(answer({ error: "file is not a database" })).toBe("fail");
	expect(answer({ integrity: ["ok"], foreignKeys: 3, tables: 1 })).toBe("unknown");
	expect(judgeAnswer("").status).toBe("unknown");
	expect(judgeAnswer("{").status).toBe("unknown");
});

test.each(["../x.img", "/etc/passwd", ".hidden", "a/b", "a\0b", ""])(
	"a manifest that names the image %j is refused",
	(image) => {
		expect(() => parseManifest(JSON.stringify(manifest(image)), "manifest.json")).toThrow(
			expect.objectContaining({ code: "recovery-point-invalid" }),
		);
	},
);

test("a manifest in order is read; one disk or image twice is refused", () => {
	expect(parseManifest(JSON.stringify(manifest("a.img")), "manifest.json").disks).toHaveLength(1);
	const twice = { ...manifest("a.img"), disks: [...manifest("a.img").disks, ...manifest("b.img").disks] };
	expect(() => parseManifest(JSON.stringify(twice), "manifest.json")).toThrow();
	for (const text of ["", "null", "[]", "{", '"x"', '{"schemaVersion":2}']) {
		expect(() => parseManifest(text, "m")).toThrow(expect.objectContaining({ code: "recovery-point-invalid" }));
	}
});

function manifest(image: string) {
	const at = "2026-01-01T00:00:00.000Z";
	return {
		schemaVersion: 1,
		id: "rp-1",
		agentId: "a",
		jobId: "job-1",
		createdAt: at,
		provider: "image-files",
		level: "crash",
		disks: [{ name: "vda", image, sizeBytes: 1, method: "copy", copyMs: 1, identity: { fileSystems: [] } }],
		machine: { hostname: "h" },
		report: {
			schemaVersion: 1,
			jobId: "job-1",
			requested: "crash",
			accepted: "crash",
			achieved: "crash",
			held: "crash",
			because: [],
			startedAt: at,
			durationMs: 1,
			extension: { name: "x", version: "1" },
			fileSystems: [],
			scripts: [],
			writers: [],
			disks: [],
			notCovered: [],
		},
	};
}

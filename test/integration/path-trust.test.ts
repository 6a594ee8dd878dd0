import { chmod, chown, mkdir, mkdtemp, realpath, rm, symlink, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { checkRootOwnedChain } from "../../platform/linux/path-trust.ts";
import { requireTools } from "../fixtures/required-tools.ts";

const lacking = requireTools("root");

describe.skipIf(lacking)(`a path that only root can change${lacking ? ` (${lacking})` : ""}`, () => {
	let dir: string;
	let file: string;

	beforeEach(async () => {
		dir = await mkdtemp("/var/lib/stillpoint-test-trust-");
		await mkdir(join(dir, "folder"), { mode: 0o755 });
		file = join(dir, "folder", "script");
		await writeFile(file, "", { mode: 0o755 });
	});
	afterEach(() => rm(dir, { recursive: true, force: true }));

	async function fault(path: string): Promise<unknown> {
		return checkRootOwnedChain(path).then(
			() => undefined,
			(error: { code: string; details: { path: string } }) => [error.code, error.details.path],
		);
	}

	it("is trusted, and told by its real path", async () => {
		await symlink(file, join(dir, "link"));
		expect(await checkRootOwnedChain(join(dir, "link"))).toBe(await realpath(file));
		expect(await checkRootOwnedChain("/")).toBe("/");
	});

	it("is absolute and exists", async () => {
		expect(await fault("relative/path")).toEqual(["untrusted-path", "relative/path"]);
		expect(await fault(join(dir, "absent"))).toEqual(["not-found", join(dir, "absent")]);
	});

	it.each([0o775, 0o757, 0o1777])("a folder above it of mode %o is named", async (mode) => {
		await chmod(join(dir, "folder"), mode);
		expect(await fault(file)).toEqual(["untrusted-path", join(dir, "folder")]);
	});

	it("another owner anywhere is named", async () => {
		await chown(file, 1000, 0);
		expect(await fault(file)).toEqual(["untrusted-path", file]);
		await chown(file, 0, 0);
		await chown(join(dir, "folder"), 1000, 0);
		expect(await fault(file)).toEqual(["untrusted-path", join(dir, "folder")]);
	});

	it("a link is followed, and both its own folder and where it leads are checked", async () => {
		await mkdir(join(dir, "open"), { mode: 0o777 });
		await chmod(join(dir, "open"), 0o777);
		await symlink(file, join(dir, "open", "link"));
		expect(await fault(join(dir, "open", "link"))).toEqual(["untrusted-path", join(dir, "open")]);
		await writeFile(join(dir, "open", "script"), "");
		await symlink("open/script", join(dir, "link"));
		expect(await fault(join(dir, "link"))).toEqual(["untrusted-path", join(dir, "open")]);
	});

	it("a link in the middle of the path is followed too", async () => {
		await mkdir(join(dir, "open"), { mode: 0o777 });
		await chmod(join(dir, "open"), 0o777);
		await writeFile(join(dir, "open", "script"), "");
		await symlink("open", join(dir, "alias"));
		expect(await fault(join(dir, "alias", "script"))).toEqual(["untrusted-path", join(dir, "open")]);
	});

	it(".. after a link leads out of where the link led, as the kernel has it", async () => {
		await mkdir(join(dir, "open", "inner"), { recursive: true });
		await chmod(join(dir, "open"), 0o777);
		await writeFile(join(dir, "script"), "", { mode: 0o755 });
		await writeFile(join(dir, "open", "script"), "");
		await symlink(join(dir, "open", "inner"), join(dir, "link"));
		expect(await fault(join(dir, "script"))).toBeUndefined();
		expect(await fault(`${dir}/link/../script`)).toEqual(["untrusted-path", join(dir, "open")]);
		expect(await checkRootOwnedChain(`${dir}/folder/../script`)).toBe(join(dir, "script"));
	});

	it("a circle of links ends", async () => {
		await symlink("b", join(dir, "a"));
		await symlink("a", join(dir, "b"));
		expect(await fault(join(dir, "a"))).toMatchObject(["untrusted-path", expect.any(String)]);
	});

	it("a socket is neither a file nor a folder", async () => {
		const server = createServer().listen(join(dir, "socket"));
		await new Promise((resolve) => server.on("listening", resolve));
		expect(await fault(join(dir, "socket"))).toEqual(["untrusted-path", join(dir, "socket")]);
		server.close();
	});
});

import { access, constants } from "node:fs/promises";
import { join } from "node:path";

/** Where distributions put programs, below a prefix such as /usr: only that is seen by what runs confined. */
const usual: readonly string[] = ["sbin", "bin", "libexec", "local/sbin", "local/bin"];

/** @param folders below the prefix that are looked into first. */
export async function findProgram(
	name: string,
	prefix: string,
	folders: readonly string[] = [],
): Promise<string | undefined> {
	for (const folder of [...folders, ...usual]) {
		const path = join(prefix, folder, name);
		if (
			await access(path, constants.X_OK).then(
				() => true,
				() => false,
			)
		)
			return path;
	}
	return undefined;
}

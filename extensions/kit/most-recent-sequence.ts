import { join } from "node:path";
import { StillpointError } from "../../contracts/errors.ts";
import { instancePrefix } from "./instance-name.ts";
import { isMissing, readLimitedFile } from "./read-limited-file.ts";
import { writeWholeFile } from "./write-whole-file.ts";

export type MostRecentSequence = {
	/** Whether work for this sequence number was begun before: `enable` is called again at every start of a host. */
	alreadyDone(sequenceNumber: number): Promise<boolean>;
	/** To be called before the work begins: what is begun is never begun twice. */
	begin(sequenceNumber: number): Promise<void>;
	find(): Promise<number | undefined>;
};

/**
 * The file `mrseq` in the package, by Azure's convention; hosts copy it to the next version at an update. A number that
 * is smaller than the last one counts as new: Azure does not promise that they increase.
 * @throws `settings-invalid` when it cannot be read: whether the work was done can't be told then
 */
export function mostRecentSequence(packageFolder: string, extensionName?: string | undefined): MostRecentSequence {
	const path = join(packageFolder, `${instancePrefix(extensionName)}mrseq`);
	const find = async () => {
		const text = await readLimitedFile(path, 1024).catch((error: Error) => {
			if (isMissing(error)) return undefined;
			throw new StillpointError("settings-invalid", `${path} ${error.message}`, { cause: error });
		});
		const number = text?.trim();
		if (number === undefined) return undefined;
		if (!/^-?\d{1,10}$/.test(number)) throw new StillpointError("settings-invalid", `${path} is no sequence number`);
		return Number(number);
	};
	return {
		find,
		alreadyDone: async (sequenceNumber) => (await find()) === sequenceNumber,
		begin: (sequenceNumber) => writeWholeFile(path, String(sequenceNumber)),
	};
}

import { StringDecoder } from "node:string_decoder";

const earlyLines = 64;

/** A line that is longer than the limit is cut and marked: what is left of it must not be taken for a shorter one. */
export class LineSplitter {
	readonly #limit: number;
	readonly #decoder = new StringDecoder("utf8");
	#rest = "";
	#early: string[] = [];
	#listener: ((line: string) => void) | undefined;

	constructor(limit: number) {
		this.#limit = limit;
	}

	push(chunk: Buffer): void {
		const parts = (this.#rest + this.#decoder.write(chunk)).split("\n");
		// One more than the limit, so that it is known to be cut when its end comes later.
		this.#rest = (parts.pop() ?? "").slice(0, this.#limit + 1);
		for (const part of parts) this.#tell(part);
	}

	end(): void {
		if (this.#rest !== "") this.#tell(this.#rest);
		this.#rest = "";
	}

	listen(listener: (line: string) => void): void {
		this.#listener = listener;
		for (const line of this.#early.splice(0)) listener(line);
	}

	#tell(part: string): void {
		const line = part.length > this.#limit ? `${part.slice(0, this.#limit)}…` : part.trimEnd();
		if (this.#listener !== undefined) this.#listener(line);
		else if (this.#early.length < earlyLines) this.#early.push(line);
	}
}

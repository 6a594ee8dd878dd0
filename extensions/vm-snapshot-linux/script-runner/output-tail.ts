/** Keeps the last bytes of what a process prints, whatever it prints. */
export class OutputTail {
	readonly #limitBytes: number;
	#chunks: Buffer[] = [];
	#keptBytes = 0;

	constructor(limitBytes: number) {
		this.#limitBytes = limitBytes;
	}

	push(chunk: Buffer): void {
		this.#chunks.push(Buffer.from(chunk.subarray(-this.#limitBytes)));
		this.#keptBytes += Math.min(chunk.length, this.#limitBytes);
		if (this.#keptBytes > 2 * this.#limitBytes) this.#shrink();
	}

	text(): string {
		this.#shrink();
		return (this.#chunks[0] ?? Buffer.alloc(0)).toString("utf8");
	}

	#shrink(): void {
		const kept = Buffer.concat(this.#chunks).subarray(-this.#limitBytes);
		this.#chunks = [kept];
		this.#keptBytes = kept.length;
	}
}
